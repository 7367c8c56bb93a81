// See memory.h.
#include "memory.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <sys/mman.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <unordered_map>

namespace fedreplay {
namespace {

// Smaller blocks are the C library's, which keeps those itself. Blocks from HUGE on lie on huge pages, where the system
// has them.
constexpr size_t SMALLEST = 1 << 14, PAGE = 1 << 12, HUGE = 2 << 20;

class Keeper final : public c10::Allocator {
 public:
  explicit Keeper(size_t most) : most_(most) {}

  c10::DataPtr allocate(size_t bytes) override {
    if (bytes < SMALLEST) return c10::GetDefaultCPUAllocator()->allocate(bytes);
    void* block = take(bytes);
    // The default allocator says what was asked for when there is nothing left.
    if (!block) return c10::GetDefaultCPUAllocator()->allocate(bytes);
    return {block, block, &give_back, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }

  void copy_data(void* to, const void* from, size_t count) const override { default_copy_data(to, from, count); }

  static Keeper*& one() {
    static Keeper* keeper = nullptr;
    return keeper;
  }

 private:
  // A free block of that size or up to a quarter more, or a new one; null where there is no memory.
  void* take(size_t bytes) {
    const size_t size = (bytes + PAGE - 1) / PAGE * PAGE;
    std::lock_guard<std::mutex> guard(lock_);
    auto found = free_.lower_bound(size);
    if (found != free_.end() && found->first <= size + size / 4) {
      void* block = found->second;
      kept_ -= found->first;
      taken_.emplace(block, found->first);
      free_.erase(found);
      return block;
    }
    void* block = fresh(size);
    if (!block) {
      release_all();
      block = fresh(size);
    }
    if (block) taken_.emplace(block, size);
    return block;
  }

  static void* fresh(size_t size) {
    void* block = nullptr;
    if (posix_memalign(&block, size >= HUGE ? HUGE : PAGE, size) != 0) return nullptr;
    if (size >= HUGE) madvise(block, size, MADV_HUGEPAGE);
    return block;
  }

  void release_all() {
    for (auto& [size, block] : free_) std::free(block);
    free_.clear();
    kept_ = 0;
  }

  static void give_back(void* block) {
    if (!one()->keep(block)) c10::free_cpu(block);
  }

  // Whether the block was one of those handed out here.
  bool keep(void* block) {
    std::lock_guard<std::mutex> guard(lock_);
    auto found = taken_.find(block);
    if (found == taken_.end()) return false;
    const size_t size = found->second;
    taken_.erase(found);
    // What is kept may be of shapes that do not come again, so all of it goes, not this block.
    if (kept_ + size > most_) release_all();
    if (size > most_) {
      std::free(block);
    } else {
      free_.emplace(size, block);
      kept_ += size;
    }
    return true;
  }

  std::mutex lock_;
  std::multimap<size_t, void*> free_;
  std::unordered_map<void*, size_t> taken_;
  size_t kept_ = 0;
  const size_t most_;
};

}  // namespace

void keep_tensor_memory(size_t most) {
  if (Keeper::one()) return;
  // Never deleted: tensors may outlive everything.
  Keeper::one() = new Keeper(most);
  c10::SetCPUAllocator(Keeper::one(), 1);
}

}  // namespace fedreplay
