//! Runs on a disk that is full before they are done: a clear error, nothing that reads as whole, and the same digest once
//! there is space.

use std::process::Stdio;

use super::support::{Said, World, not_possible};

/// Exit code of the script below where nothing could be mounted.
const NO_MOUNT: i32 = 77;

/// Plays in a mount namespace of its own, onto a small disk of which `$1` KiB are left, and after that on an empty one.
/// `$2` is the program, `$3` where the run goes, `$4` where the store is.
const SCRIPT: &str = r#"
mkdir -p disk && mount -t tmpfs -o size=4096k tmpfs disk || exit 77
dd if=/dev/zero of=disk/ballast bs=1024 count=$((4096 - $1)) 2>/dev/null || exit 78
play="$2 run scenario.ron --out $3 --store $4 --workers 2 --set rounds=2"
$play >/dev/null 2>said; echo "run $?"
if [ -e "$3/manifest.json" ]; then $2 verify "$3" >/dev/null 2>&1; echo "verify $?"; fi
cat said >&2
rm disk/ballast
if ! [ -e "$3/manifest.json" ]; then $play; elif grep -q '"running"' "$3/manifest.json"; then $2 resume "$3" --store "$4"; fi
echo "then $?"
$2 verify "$3"; echo "whole $?"
"#;

/// What the script said; none where the machine lets nobody mount.
fn play(world: &World, left_kib: u32, run: &str, store: &str) -> Option<Said> {
    let attempt = |namespace: &[&str]| {
        let mut command = world.command_of("unshare");
        command.args(namespace).args(["sh", "-c", SCRIPT, "sh", &left_kib.to_string()]);
        command.args([env!("CARGO_BIN_EXE_fedreplay"), run, store]).stdin(Stdio::null());
        command.output().ok().map(Said::of)
    };
    // Root may mount; others may where they are let into a namespace of users.
    [&["--mount"][..], &["--map-root-user", "--mount"]].into_iter().find_map(|namespace| {
        let said = attempt(namespace)?;
        (said.code != Some(NO_MOUNT) && said.stdout.starts_with("run ")).then_some(said)
    })
}

#[test]
fn a_full_disk_is_a_clear_error_and_costs_no_bit() {
    let world = World::new();
    let undisturbed = world.run("undisturbed", &["--set", "rounds=2"]).succeeded();
    let digest = format!("digest {}", undisturbed.summary("digest"));
    let mut failed = 0;
    // The run alone, the store alone, and both are on the small disk. With more and more space the run gets further.
    for (place, run, store) in
        [("run", "disk/run", "store"), ("store", "run", "disk/store"), ("both", "disk/run", "disk/store")]
    {
        for left_kib in [0, 8, 32, 120] {
            let about = format!("{place} with {left_kib} KiB left");
            let Some(said) = play(&world, left_kib, run, store) else {
                return not_possible(
                    "the test of full disks",
                    "no small file system could be mounted (unshare --mount, tmpfs)",
                );
            };
            for folder in ["run", "store"] {
                let _ = std::fs::remove_dir_all(world.path(folder));
            }
            if said.stdout.starts_with("run 1\n") {
                failed += 1;
                assert!(said.stderr.contains("No space left on device"), "{about}: {}", said.stderr);
                assert!(!said.stdout.contains("verify 0"), "{about}: a half-written run reads as whole");
            } else {
                assert!(said.stdout.starts_with("run 0\nverify 0\n"), "{about}: {}{}", said.stdout, said.stderr);
            }
            assert!(!said.stderr.contains("panicked"), "{about}: {}", said.stderr);
            for expected in ["then 0\n", "whole 0\n", &digest] {
                assert!(said.stdout.contains(expected), "{about}: no `{expected}` in {}{}", said.stdout, said.stderr);
            }
        }
    }
    assert!(failed > 4, "only {failed} runs met a full disk");
}
