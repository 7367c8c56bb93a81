//! Tests of the sandbox with malicious samples and with harmless ones.
//!
//! Where the host cannot confine, the tests assert that nothing is run; under `CI=true` as root that is a failure.

use std::net::TcpListener;
use std::ops::ControlFlow;

use nix::sys::signal::SigSet;

use super::isolation::Confinement;
use super::{Limits, ProgramOutcome, Sandbox, SandboxError};

/// Returns a sandbox with short limits. `None` if the host cannot confine, after checking that it is refused.
pub(crate) fn sandbox() -> Option<Sandbox> {
    match Sandbox::open(Limits { seconds: 5, ..Limits::default() }) {
        Ok(sandbox) => Some(sandbox),
        Err(error) => {
            let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            let is_root =
                std::fs::metadata("/proc/self").is_ok_and(|process| std::os::unix::fs::MetadataExt::uid(&process) == 0);
            assert!(!(is_ci && is_root), "CI runs as root, so generated code must be confined for real: {error}");
            assert!(!matches!(error, SandboxError::Io(_)), "{error}");
            eprintln!("refused, as it must be here: {error}");
            None
        }
    }
}

/// Asserts that every sample fails, and that each fails in a way that `expected` allows.
#[track_caller]
fn fails(samples: &[(&str, &[&str])]) {
    let Some(sandbox) = sandbox() else { return };
    for (sample, expected) in samples {
        let outcome = sandbox.run(sample).unwrap();
        assert!(!outcome.is_passed(), "{sample}");
        let text = outcome.to_string();
        assert!(expected.iter().any(|part| text.contains(part)), "{text}:\n{sample}");
    }
}

#[test]
fn a_sample_gets_the_signals_that_the_program_blocks() {
    let Some(sandbox) = sandbox() else { return };
    // This thread ends with the test, so nothing else is blocked.
    SigSet::all().thread_block().unwrap();
    let outcome = sandbox.run(
        "import os, signal
if (child := os.fork()) == 0:
    signal.pause()
os.kill(child, signal.SIGTERM)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM",
    );
    assert!(outcome.as_ref().is_ok_and(ProgramOutcome::is_passed), "{outcome:?}");
}

#[test]
fn samples_that_use_up_the_host_fail() {
    fails(&[
        ("import os\nwhile True:\n    os.fork()", &["BlockingIOError", "out of time", "ended before"]),
        (
            "import threading, time\nfor _ in range(99): threading.Thread(target=time.sleep, args=(9,)).start()",
            &["RuntimeError"],
        ),
        ("while True: pass", &["out of time"]),
        ("import time\ntime.sleep(1000)", &["out of time"]),
        ("x = [0]\nwhile True: x += x", &["MemoryError"]),
        ("import sys\nfor _ in range(10_000): sys.stdout.write('x' * 1_000_000)", &["too much output"]),
        ("f = open('big', 'wb')\nfor _ in range(10_000): f.write(bytes(1_000_000))", &["OSError: [Errno 27]"]),
        (
            "for i in range(10_000):\n    with open(str(i), 'wb') as f: f.write(bytes(1_000_000))",
            &["No space left", "MemoryError"],
        ),
        ("def f(): f()\nf()", &["RecursionError"]),
    ]);
}

#[test]
fn samples_that_hold_memory_in_many_places_fail() {
    const TOO_MUCH: &[&str] = &["too much memory in all processes together"];
    let many = "import os, time\nfor _ in range(12):\n    if os.fork() == 0:\n        ";
    let held = |how: &str| format!("{many}{how}\n        time.sleep(60)\ntime.sleep(60)");
    let anonymous = held("x = bytearray(200 << 20)");
    let shared = held("import mmap; x = mmap.mmap(-1, 200 << 20)");
    // Pages that were written and dropped again stay in memory, outside of what the process is said to have resident.
    let dropped =
        held("import mmap; x = mmap.mmap(-1, 200 << 20); x.write(bytes(50 << 20)); x.madvise(mmap.MADV_DONTNEED)");
    // Processes whose parents have ended.
    let orphans = "import os, time\nfor _ in range(12):\n    if os.fork() == 0:\n        if os.fork() == 0:\n            \
        x = bytearray(200 << 20); time.sleep(60)\n        os._exit(0)\n    os.wait()\ntime.sleep(60)";
    // A name that is no text, and a process whose first thread has ended.
    let renamed = held("import ctypes; ctypes.CDLL(None).prctl(15, b'\\xff\\xfe', 0, 0, 0); x = bytearray(200 << 20)");
    let headless = "import ctypes, os, threading, time\nfor _ in range(4):\n    if os.fork() == 0:\n        \
        x = bytearray(350 << 20); threading.Thread(target=time.sleep, args=(60,)).start()\n        \
        ctypes.CDLL(None).syscall(60, 0)\ntime.sleep(60)";
    let sysv = |call: &str| {
        format!("import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nassert {call} != -1, ctypes.get_errno()")
    };
    let [segment, queue, semaphores] =
        ["libc.shmget(0, 1 << 20, 0o1600)", "libc.msgget(0, 0o1600)", "libc.semget(0, 9, 0o1600)"].map(sysv);
    fails(&[
        (&anonymous, TOO_MUCH),
        (&shared, TOO_MUCH),
        (&dropped, TOO_MUCH),
        (orphans, TOO_MUCH),
        (&renamed, TOO_MUCH),
        (headless, TOO_MUCH),
        ("import os\nos.memfd_create('x')", &["PermissionError"]),
        (&segment, &["AssertionError: 1"]),
        (&queue, &["AssertionError: 1"]),
        (&semaphores, &["AssertionError: 1"]),
    ]);
    // What HumanEval's solutions do is far below.
    let Some(sandbox) = sandbox() else { return };
    let usual = "import os, subprocess, threading\nx = bytearray(300 << 20)\n\
        threads = [threading.Thread(target=len, args=(x,)) for _ in range(8)]\n\
        for thread in threads: thread.start()\nfor thread in threads: thread.join()\n\
        if os.fork() == 0: os._exit(0)\nos.wait()";
    let outcome = sandbox.run(usual);
    assert!(outcome.as_ref().is_ok_and(ProgramOutcome::is_passed), "{outcome:?}");
}

#[test]
fn samples_that_look_or_write_outside_fail() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "untouched").unwrap();
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".into());
    let read = format!("open({:?}).read()", secret.to_string_lossy());
    let write = format!("open({:?}, 'w').write('x')", secret.to_string_lossy());
    // If the interpreter lies below the home folder, the sandbox shows the folders on the way to it and no other files.
    let list = format!(
        "import os\nfound = [f for _, _, files in os.walk({home:?}) for f in files if 'python' not in _]\n\
         assert found, 'nothing is there'"
    );
    fails(&[
        (&read, &["FileNotFoundError"]),
        (&write, &["FileNotFoundError"]),
        ("open('/etc/passwd').read()", &["FileNotFoundError"]),
        ("open('/usr/bin/x', 'w')", &["OSError: [Errno 30]", "PermissionError"]),
        ("import os\nos.remove('/usr/bin/env')", &["OSError: [Errno 30]", "PermissionError"]),
        ("open('/proc/1/environ').read()", &["FileNotFoundError"]),
        ("import os\nos.mkdir('d'); os.chroot('d')", &["PermissionError"]),
        (&list, &["nothing is there", "ended before"]),
    ]);
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "untouched");
}

#[test]
fn samples_that_leave_their_place_fail() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = format!(
        "import socket\nsocket.create_connection(('127.0.0.1', {}), timeout=3)",
        listener.local_addr().unwrap().port()
    );
    fails(&[
        (
            "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nwhile True: pass",
            &["Error", "out of time", "ended"],
        ),
        ("import os, signal\nos.kill(-1, signal.SIGKILL)\nraise SystemExit", &["ended before", "Error", "SystemExit"]),
        ("import os, signal\nos.kill(1, signal.SIGKILL)\nraise SystemExit", &["Error", "SystemExit"]),
        (&connect, &["OSError", "ConnectionRefusedError"]),
        ("import socket\nsocket.socket().connect(('192.0.2.1', 80))", &["OSError: [Errno 101]"]),
        ("import os\nassert os.environ.get('FEDREPLAY_JUDGE_KEY') or len(os.environ) > 9, 'no key'", &["no key"]),
        (
            "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0, 'no user namespace'",
            &["no user namespace", "OSError", "ImportError"],
        ),
        ("import os\nos.setuid(0); os.setgroups([]); assert os.getuid(), 'still nobody'", &["Error", "still nobody"]),
    ]);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nobody came out");
}

pub(crate) fn run_all(sandbox: &Sandbox, programs: &[String]) -> Vec<ProgramOutcome> {
    let outcomes = sandbox.run_all(programs, 2, &|_, _| ControlFlow::Continue(())).unwrap();
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

#[test]
fn an_outcome_is_kept_under_what_decides_it_and_the_rest_is_left_where_the_running_ends() {
    let Some(sandbox) = sandbox() else { return };
    let other = Sandbox::open(Limits { seconds: 6, ..Limits::default() }).unwrap();
    assert_eq!(sandbox.key("x = 1"), sandbox.key("x = 1"));
    assert_ne!(sandbox.key("x = 1"), sandbox.key("x = 2"));
    assert_ne!(sandbox.key("x = 1"), other.key("x = 1"), "other limits");
    let outcomes = sandbox.run_all(&["x = 1", "x = 2"], 1, &|_, _| ControlFlow::Break(())).unwrap();
    assert_eq!(outcomes, [(0, ProgramOutcome::Passed)]);
}

#[test]
fn only_a_sample_that_reaches_its_end_passes() {
    fails(&[
        ("import sys\nsys.exit(0)", &["SystemExit"]),
        ("import os\nos._exit(0)", &["ended before"]),
        ("print('passed')\nassert False", &["AssertionError"]),
        ("def f(:", &["SyntaxError"]),
        ("input()", &["EOFError"]),
    ]);
    let Some(sandbox) = sandbox() else { return };
    let well = ["open('mine', 'w').write('x')\nassert open('mine').read() == 'x'".to_owned(), "print('é')".into()];
    let outcomes = run_all(&sandbox, &well);
    assert_eq!(outcomes, [ProgramOutcome::Passed, ProgramOutcome::Passed]);
}

#[test]
fn sandboxes_that_are_opened_at_once_share_no_limit() {
    let Some(_) = sandbox() else { return };
    let opened = || Sandbox::open(Limits { seconds: 5, ..Limits::default() }).map(|_| ());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(opened)).collect();
        for thread in threads {
            let opened = thread.join().unwrap();
            assert!(opened.is_ok(), "{opened:?}");
        }
    });
}

#[test]
fn a_host_that_does_not_confine_is_refused() {
    let Some(_) = sandbox() else { return };
    let usual = Confinement::default();
    let script = |from: &str, to: &str| {
        assert!(usual.script.contains(from), "{from}");
        Confinement { script: usual.script.replace(from, to), ..usual.clone() }
    };
    let from = usual.script.find("set -- setpriv").expect("the script drops rights");
    let rights = &usual.script[from..usual.script.find("echo confined").expect("the script says when it is done")];
    let temporary = format!("show /usr\nshow {}\n", std::env::temp_dir().display());
    let weak = [
        (
            Confinement { namespaces: usual.namespaces.replace("--net ", ""), ..usual.clone() },
            "the network of the host",
        ),
        (script("--nproc=$processes", "--nproc=100"), "the number of processes is not limited"),
        (script("--as=$memory_bytes", "--as=unlimited"), "memory is not limited"),
        (script("--fsize=$file_bytes", "--fsize=unlimited"), "files may be of any size"),
        (script("show /usr\n", &temporary), "files of the host can be read"),
        (
            script("pivot_root", "mkdir box/proc\nmount --rbind /proc box/proc\npivot_root"),
            "processes of the host can be seen",
        ),
        (script(rights, "set -- env\n"), "the sample has the rights of root"),
        (script("pivot_root", "pivot_rot"), "failed to confine"),
        (Confinement { forbids_calls: false, ..usual.clone() }, "segments of System V take memory"),
        (Confinement { forbids_calls: false, ..usual.clone() }, "files without a name take memory"),
        (Confinement { watches_memory: false, ..usual.clone() }, "memory of all processes together is not limited"),
    ];
    for (confinement, expected) in weak {
        let error = Sandbox::confined_by(confinement, Limits::default()).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let nowhere = Confinement { tools_path: "/nowhere".into(), ..usual };
    let error = Sandbox::confined_by(nowhere, Limits::default()).unwrap_err().to_string();
    assert!(error.contains("`unshare`") && error.contains("util-linux"), "{error}");
}
