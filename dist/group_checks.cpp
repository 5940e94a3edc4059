#include <tendril/dist/group_checks.h>

#include <numeric>

namespace tendril::dist {
namespace {

int64_t sum_of(const char* op, const std::vector<int64_t>& counts, int size) {
  TENDRIL_CHECK(static_cast<int>(counts.size()) == size, "[", op, "] got ", counts.size(),
                " counts in a group of ", size, "; there is one for each rank");
  for (const int64_t count : counts)
    TENDRIL_CHECK(count >= 0, "[", op, "] a count is negative: ", count);
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

const std::byte* bytes_of(const Tensor& x) { return static_cast<const std::byte*>(x.raw_data()); }

// A part may share memory with its whole only where it belongs.
void check_place(const char* op, const Piece& piece, int rank) {
  if (!overlap(piece.whole, piece.part)) return;
  const int64_t begin =
      std::accumulate(piece.counts.begin(), piece.counts.begin() + rank, int64_t{0});
  TENDRIL_CHECK(piece.whole.dtype() == piece.part.dtype(), "[", op,
                "] a part that lies in its whole must have the same dtype; got ",
                piece.part.dtype(), " in ", piece.whole.dtype());
  TENDRIL_CHECK(bytes_of(piece.part) == bytes_of(piece.whole) + begin * size_of(piece.part.dtype()),
                "[", op, "] part and whole share memory, but the part is not elements ", begin,
                " to ", begin + piece.part.numel(), " of the whole, where rank ", rank,
                "'s belong");
}

}  // namespace

bool overlap(const Tensor& a, const Tensor& b) {
  if (a.numel() == 0 || b.numel() == 0 || a.device() != b.device()) return false;
  return bytes_of(a) < bytes_of(b) + b.nbytes() && bytes_of(b) < bytes_of(a) + a.nbytes();
}

void check_tensors(const char* op, const std::vector<Tensor>& tensors) {
  for (const Tensor& x : tensors) {
    TENDRIL_CHECK(
        !x.defined() || !x.storage()->is_on_demand(), "[", op,
        "] got a sharded parameter, whose numbers are gathered by operations between ranks "
        "themselves; pass a clone() of it");
    TENDRIL_CHECK(x.defined(), "[", op, "] got an undefined tensor");
    TENDRIL_CHECK(x.is_contiguous(), "[", op, "] needs contiguous tensors; got strides ",
                  x.strides(), " for shape ", x.shape(), "; call contiguous(x) first");
    TENDRIL_CHECK(!x.requires_grad() || x.is_leaf(), "[", op,
                  "] cannot be differentiated, and got the result of a recorded operation, shape ",
                  x.shape(), "; pass x.detach()");
    TENDRIL_CHECK(x.device() == tensors.front().device(), "[", op,
                  "] the tensors of one call must be on one device; got ", tensors.front().device(),
                  " and ", x.device());
  }
}

void check_reducible(const char* op, DType dtype, ReduceOp reduce) {
  TENDRIL_CHECK(dtype != bool_, "[", op, "] cannot reduce bool; cast it with to(x, u8)");
  TENDRIL_CHECK(reduce != ReduceOp::avg || is_floating(dtype), "[", op,
                "] avg needs floating-point tensors; got ", dtype, "; use ReduceOp::sum");
}

void check_pieces(const char* op, const std::vector<Piece>& pieces, int rank, int size,
                  bool with_whole, bool may_widen) {
  std::vector<Tensor> tensors;
  for (const Piece& piece : pieces) {
    tensors.push_back(piece.part);
    if (with_whole) tensors.push_back(piece.whole);
  }
  check_tensors(op, tensors);
  for (const Piece& piece : pieces) {
    const int64_t total = sum_of(op, piece.counts, size);
    const int64_t own = piece.counts[static_cast<size_t>(rank)];
    TENDRIL_CHECK(piece.part.numel() == own, "[", op, "] rank ", rank, "'s part has shape ",
                  piece.part.shape(), ", but its count is ", own);
    if (!with_whole) continue;
    TENDRIL_CHECK(piece.whole.numel() == total, "[", op, "] the whole has shape ",
                  piece.whole.shape(), ", but the counts add up to ", total);
    const DType whole = piece.whole.dtype(), part = piece.part.dtype();
    const bool widens = may_widen && is_floating(whole) && promote(whole, part) == part;
    TENDRIL_CHECK(whole == part || widens, "[", op, "] whole and part must have the same dtype",
                  may_widen ? " or the part a wider one" : "", "; got ", whole, " and ", part);
    check_place(op, piece, rank);
  }
}

void check_rank(const char* op, int rank, int size) {
  TENDRIL_CHECK(rank >= 0 && rank < size, "[", op, "] there is no rank ", rank, " in a group of ",
                size);
}

void check_counts(const char* op, const char* what, const Tensor& tensor,
                  const std::vector<int64_t>& counts, int size) {
  const int64_t total = sum_of(op, counts, size);
  TENDRIL_CHECK(tensor.numel() == total, "[", op, "] the ", what, " has shape ", tensor.shape(),
                ", but its counts add up to ", total);
}

}  // namespace tendril::dist
