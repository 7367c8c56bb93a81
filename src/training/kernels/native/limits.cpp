// Ends the process with one sentence where the machine, or a limit of it, has no more memory or threads.
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <exception>
#include <new>

namespace {

void say(const char* text) {
  // Nobody may be reading, which changes nothing.
  const ssize_t written = write(2, text, strlen(text));
  (void)written;
}

std::atomic<pid_t> first{0};

}  // namespace

// Returns for the first thread that ends the process. Others wait for the end, and the first ends it at once if it has no memory
// for its sentence.
extern "C" void fedreplay_be_first() {
  pid_t other = 0;
  if (first.compare_exchange_strong(other, gettid())) return;
  if (other == gettid()) _exit(1);
  for (;;) pause();
}

extern "C" [[noreturn]] void fedreplay_out_of_memory() {
  fedreplay_be_first();
  say("error: failed to get memory: the machine, or a limit such as that of `ulimit -v`, has no more\n");
  _exit(1);
}

namespace {

[[noreturn]] void terminated() {
  try {
    if (std::exception_ptr thrown = std::current_exception()) std::rethrow_exception(thrown);
  } catch (const std::bad_alloc&) {
    fedreplay_out_of_memory();
  } catch (const std::exception& error) {
    const char* what = error.what();
    if (strstr(what, "can't allocate memory") || strstr(what, "bad_alloc")) fedreplay_out_of_memory();
    fedreplay_be_first();
    say("error: a library of the program failed: ");
    // The first line: LibTorch adds its stack.
    const ssize_t written = write(2, what, strcspn(what, "\n"));
    (void)written;
    say("\n");
    _exit(1);
  } catch (...) {
  }
  fedreplay_be_first();
  say("error: a library of the program failed\n");
  _exit(1);
}

}  // namespace

namespace {

struct sigaction before;

// Whether the machine does not even give a little memory.
bool is_exhausted() {
  const size_t little = size_t{64} << 20;
  void* block = mmap(nullptr, little, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) return true;
  munmap(block, little);
  return false;
}

// A library that does not look at what it got reads from address zero where it got no memory.
void faulted(int, siginfo_t*, void*) {
  if (first.load() != 0 || is_exhausted()) fedreplay_out_of_memory();
  // Another fault happens again after the return, and is treated as it was before.
  sigaction(SIGSEGV, &before, nullptr);
}

}  // namespace

// Must be called after the standard library has installed its handler, which recognizes a stack that is too small.
extern "C" void fedreplay_name_faults() {
  struct sigaction action = {};
  action.sa_sigaction = faulted;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, &before);
}

// Must be called before the initializers of LibTorch, which may throw.
extern "C" void fedreplay_name_limits() { std::set_terminate(terminated); }
