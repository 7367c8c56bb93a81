// A thread's own memory, which it keeps from call to call.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>

// Of limits.cpp.
extern "C" [[noreturn]] void fedreplay_out_of_memory();

namespace fedreplay {
namespace {

struct Free {
  void operator()(void* p) const { std::free(p); }
};

// A piece of memory that only grows, aligned for any vector.
template <class T>
class ScratchOf {
 public:
  T* at_least(int64_t count) {
    if (count > size_) {
      held_.reset(static_cast<T*>(std::aligned_alloc(64, (sizeof(T) * count + 63) / 64 * 64)));
      // A thread of a pool has nobody to give an error to: as elsewhere in the program, lack of memory ends it with a sentence.
      if (!held_) fedreplay_out_of_memory();
      size_ = count;
    }
    return held_.get();
  }

 private:
  std::unique_ptr<T, Free> held_;
  int64_t size_ = 0;
};

using Scratch = ScratchOf<float>;

}  // namespace
}  // namespace fedreplay
