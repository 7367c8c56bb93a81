// bfloat16 as it lies in memory.
#pragma once
#include <cstdint>

namespace fedreplay {

struct bf16 {
  uint16_t bits;
};

}  // namespace fedreplay
