// Tiles of 12 rows and 32 columns for processors with AVX512F. See tile.h.
#include "avx512.h"
#include "tile.h"

namespace fedreplay {

F32Tiles avx512_f32_tiles() { return Table<F32<Avx512>, 12>::tiles(); }

WidenedTiles avx512_widened_tiles() { return Table<Widened<Avx512>, 12>::tiles(); }

}  // namespace fedreplay
