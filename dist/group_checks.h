// Private to dist: whether the arguments of a collective fit together. Each is an Error that starts
// with "[op]".
#pragma once

#include <tendril/dist/process_group.h>

namespace tendril::dist {

/// Defined, dense, not results of recorded operations, and on one device.
void check_tensors(const char* op, const std::vector<Tensor>& tensors);
void check_reducible(const char* op, DType dtype, ReduceOp reduce);
/// `with_whole`: whether this rank has wholes. `may_widen`: whether a part may have a wider dtype.
void check_pieces(const char* op, const std::vector<Piece>& pieces, int rank, int size,
                  bool with_whole = true, bool may_widen = false);
void check_rank(const char* op, int rank, int size);
/// That `tensor` is flat and has as many elements as the `size` counts say.
void check_counts(const char* op, const char* what, const Tensor& tensor,
                  const std::vector<int64_t>& counts, int size);
/// Whether the two have bytes in common.
bool overlap(const Tensor& a, const Tensor& b);

}  // namespace tendril::dist
