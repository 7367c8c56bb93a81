// Memory of LibTorch's large tensors on the CPU, kept for the next tensor of about that size.
//
// A step frees what it took and the next one takes the same again. The C library gives large blocks back to the system,
// which clears every page of them anew; that was a tenth of a step.
#pragma once
#include <cstddef>

namespace fedreplay {

// Serves all tensors from now on. What is in use and what is kept are together never more than the most that was in use at a
// time, up to the rounding of sizes.
void keep_tensor_memory();

// Bytes of large tensors, in use or kept, that the system has provided.
size_t tensor_memory();

}  // namespace fedreplay
