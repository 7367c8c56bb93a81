// Ends the process with one sentence where the machine, or a limit of it, has no more memory or threads.
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

// Must be called before the initializers of LibTorch, which may throw.
extern "C" void fedreplay_name_limits() { std::set_terminate(terminated); }
