// Private to core: the maps of quantize_blockwise.h with their tables.
#pragma once

#include <tendril/core/ops/quantize_blockwise.h>
#include <tendril/core/ops/quantized_kernels.h>

namespace tendril::ops {

/// Made at the first use.
TENDRIL_API const tendril::cpu::CodeBook& code_book(CodeMap map);

}  // namespace tendril::ops
