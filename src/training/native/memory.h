// Memory of LibTorch's large tensors on the CPU, kept for the next tensor of about that size.
//
// A step frees what it took and the next one takes the same again. The C library gives large blocks back to the system,
// which clears every page of them anew; that was a tenth of a step.
#pragma once
#include <cstddef>

namespace fedreplay {

// Serves all tensors from now on. Of what is free, at most `most` bytes are kept.
void keep_tensor_memory(size_t most);

}  // namespace fedreplay
