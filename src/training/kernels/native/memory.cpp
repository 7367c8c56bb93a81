// See memory.h.
#include "memory.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace fedreplay {
namespace {

// Smaller blocks are the C library's, which keeps those itself. Blocks from HUGE on lie on huge pages, where the system
// has them.
constexpr size_t SMALLEST = 1 << 14, PAGE = 1 << 12, HUGE = 2 << 20;

// The size of the block that serves a request: one of eight sizes to an octave, in whole pages. So tensors of about the
// same length take each other's blocks, and at most an eighth of a block is not used.
size_t class_of(size_t bytes) {
  const int octave = 63 - __builtin_clzll(bytes - 1);
  const size_t step = std::max(PAGE, (size_t(1) << octave) / 8);
  return (bytes + step - 1) / step * step;
}

// A block of memory: its size, and how much of it has been asked for at most. Pages beyond that were never written, so the
// system has not provided them.
struct Block {
  void* start;
  size_t size, touched;
};

class Keeper final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes < SMALLEST) return c10::GetDefaultCPUAllocator()->allocate(bytes);
    void* block = take(bytes);
    // The default allocator says what was asked for when there is nothing left.
    if (!block) return c10::GetDefaultCPUAllocator()->allocate(bytes);
    return {block, block, &give_back, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }

  void copy_data(void* to, const void* from, size_t count) const override { default_copy_data(to, from, count); }

  size_t touched() {
    std::lock_guard<std::mutex> guard(lock_);
    return touched_;
  }

  static Keeper*& one() {
    static Keeper* keeper = nullptr;
    return keeper;
  }

 private:
  // A free block of the request's class or a new one; null where there is no memory.
  void* take(size_t bytes) {
    const size_t size = class_of(bytes);
    std::lock_guard<std::mutex> guard(lock_);
    Block block = reused(size);
    if (!block.start) {
      block = fresh(size);
      if (!block.start) return nullptr;
    }
    live_ += size;
    most_live_ = std::max(most_live_, live_);
    if (bytes > block.touched) {
      touched_ += bytes - block.touched;
      block.touched = bytes;
    }
    taken_.emplace(block.start, block);
    return block.start;
  }

  // The block of this size that was freed last, whose contents are the likeliest to be in a cache.
  Block reused(size_t size) {
    auto after = free_.upper_bound({size, UINT64_MAX});
    if (after == free_.begin()) return {};
    auto found = std::prev(after);
    if (found->first.first != size) return {};
    return remove(found);
  }

  // A new block. What is free beside it goes back to the system, the oldest first, until the whole is no more than was in
  // use at a time: tensors of many lengths take no more memory than those of the largest.
  Block fresh(size_t size) {
    const size_t most = std::max(most_live_, live_ + size);
    while (live_ + kept_ + size > most) release_oldest();
    void* start = mapped(size);
    while (!start && !ages_.empty()) {
      release_oldest();
      start = mapped(size);
    }
    return {start, size, 0};
  }

  // Memory from the system, all zero. From HUGE on it begins at a multiple of that; the whole huge pages of it are asked
  // for as such, and what is left at its end is not, so that it takes no more than what is written to it.
  static void* mapped(size_t size) {
    const size_t extra = size >= HUGE ? HUGE : 0;
    void* found = mmap(nullptr, size + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED) return nullptr;
    if (extra == 0) return found;
    char* begin = static_cast<char*>(found);
    char* start = begin + (HUGE - reinterpret_cast<uintptr_t>(begin) % HUGE) % HUGE;
    if (start != begin) munmap(begin, start - begin);
    const size_t rest = begin + size + extra - (start + size);
    if (rest > 0) munmap(start + size, rest);
    madvise(start, size / HUGE * HUGE, MADV_HUGEPAGE);
    return start;
  }

  void release_oldest() {
    auto oldest = ages_.begin();
    Block block = remove(free_.find({oldest->second, oldest->first}));
    touched_ -= block.touched;
    munmap(block.start, block.size);
  }

  // Takes a block from the free ones.
  Block remove(std::map<std::pair<size_t, uint64_t>, Block>::iterator place) {
    Block block = place->second;
    ages_.erase(place->first.second);
    free_.erase(place);
    kept_ -= block.size;
    return block;
  }

  static void give_back(void* block) {
    if (!one()->keep(block)) c10::free_cpu(block);
  }

  // Whether the block was one of those handed out here.
  bool keep(void* start) {
    std::lock_guard<std::mutex> guard(lock_);
    auto found = taken_.find(start);
    if (found == taken_.end()) return false;
    Block block = found->second;
    taken_.erase(found);
    live_ -= block.size;
    kept_ += block.size;
    free_.emplace(std::make_pair(block.size, ++time_), block);
    ages_.emplace(time_, block.size);
    return true;
  }

  std::mutex lock_;
  std::unordered_map<void*, Block> taken_;
  // By size and by when they were freed; and the sizes by that time alone.
  std::map<std::pair<size_t, uint64_t>, Block> free_;
  std::map<uint64_t, size_t> ages_;
  uint64_t time_ = 0;
  // Bytes in use, most bytes in use at a time, free bytes, and bytes of both that have been written to.
  size_t live_ = 0, most_live_ = 0, kept_ = 0, touched_ = 0;
};

}  // namespace

void keep_tensor_memory() {
  if (Keeper::one()) return;
  // Never deleted: tensors may outlive everything.
  Keeper::one() = new Keeper();
  c10::SetCPUAllocator(Keeper::one(), 1);
}

size_t tensor_memory() { return Keeper::one() ? Keeper::one()->touched() : 0; }

}  // namespace fedreplay
