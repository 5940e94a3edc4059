#include <tendril/dist/nccl/nccl_calls.h>

#include <cuda_runtime.h>
#include <nccl.h>

#include <algorithm>
#include <numeric>

#include <tendril/dist/nccl/nccl_communicator.h>

namespace tendril::dist {
namespace {

ncclDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return ncclFloat64;
    case DType::f32:
      return ncclFloat32;
    case DType::bf16:
      return ncclBfloat16;
    case DType::f16:
      return ncclFloat16;
    case DType::i64:
      return ncclInt64;
    case DType::i32:
      return ncclInt32;
    case DType::u8:
      return ncclUint8;
    case DType::bool_:
      break;
  }
  fail("[nccl] cannot reduce ", dtype);
}

ncclRedOp_t reduction_of(ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
      return ncclSum;
    case ReduceOp::avg:
      return ncclAvg;
    case ReduceOp::max:
      return ncclMax;
    case ReduceOp::min:
      return ncclMin;
  }
  fail("[nccl] invalid reduction ", static_cast<int>(op));
}

cudaStream_t handle(void* stream) { return static_cast<cudaStream_t>(stream); }

char* address_of(const Tensor& tensor) { return static_cast<char*>(tensor.raw_data()); }

bool are_even(const std::vector<int64_t>& counts) {
  return std::all_of(counts.begin(), counts.end(),
                     [&](int64_t count) { return count == counts.front(); });
}

}  // namespace

void NcclCalls::all_reduce(const Tensor& tensor, ReduceOp op) const {
  if (tensor.numel() == 0) return;
  check_nccl(
      ncclAllReduce(tensor.raw_data(), tensor.raw_data(), static_cast<size_t>(tensor.numel()),
                    type_of(tensor.dtype()), reduction_of(op), comm_, handle(stream_)),
      "ncclAllReduce");
}

// Uneven parts: a reduction to each rank of what it keeps.
void NcclCalls::reduce_scatter(const Piece& piece, ReduceOp op) const {
  const ncclDataType_t type = type_of(piece.whole.dtype());
  if (are_even(piece.counts)) {
    if (piece.part.numel() == 0) return;
    check_nccl(ncclReduceScatter(piece.whole.raw_data(), piece.part.raw_data(),
                                 static_cast<size_t>(piece.part.numel()), type, reduction_of(op),
                                 comm_, handle(stream_)),
               "ncclReduceScatter");
    return;
  }
  const char* next = address_of(piece.whole);
  for (int root = 0; root < size_; ++root) {
    const int64_t count = piece.counts[static_cast<size_t>(root)];
    if (count == 0) continue;
    check_nccl(ncclReduce(next, root == rank_ ? piece.part.raw_data() : nullptr,
                          static_cast<size_t>(count), type, reduction_of(op), root, comm_,
                          handle(stream_)),
               "ncclReduce");
    next += count * size_of(piece.whole.dtype());
  }
}

// Uneven parts: a broadcast from each rank.
void NcclCalls::all_gather(const Piece& piece) const {
  const int64_t element = size_of(piece.whole.dtype());
  if (are_even(piece.counts)) {
    if (piece.part.numel() == 0) return;
    check_nccl(
        ncclAllGather(piece.part.raw_data(), piece.whole.raw_data(),
                      static_cast<size_t>(piece.part.nbytes()), ncclUint8, comm_, handle(stream_)),
        "ncclAllGather");
    return;
  }
  char* next = address_of(piece.whole);
  for (int root = 0; root < size_; ++root) {
    const int64_t bytes = piece.counts[static_cast<size_t>(root)] * element;
    if (bytes == 0) continue;
    check_nccl(ncclBroadcast(root == rank_ ? address_of(piece.part) : next, next,
                             static_cast<size_t>(bytes), ncclUint8, root, comm_, handle(stream_)),
               "ncclBroadcast");
    next += bytes;
  }
}

void NcclCalls::broadcast(const Tensor& tensor, int root) const {
  if (tensor.numel() == 0) return;
  check_nccl(
      ncclBroadcast(tensor.raw_data(), tensor.raw_data(), static_cast<size_t>(tensor.nbytes()),
                    ncclUint8, root, comm_, handle(stream_)),
      "ncclBroadcast");
}

void NcclCalls::gather(const Piece& piece, int root) const {
  const int64_t element = size_of(piece.part.dtype());
  if (rank_ != root) return send_bytes(address_of(piece.part), piece.part.nbytes(), root);
  char* next = address_of(piece.whole);
  for (int from = 0; from < size_; ++from) {
    const int64_t bytes = piece.counts[static_cast<size_t>(from)] * element;
    const bool is_there = from == rank_ && next == address_of(piece.part);
    if (!is_there) recv_bytes(next, bytes, from);
    if (!is_there && from == rank_) send_bytes(address_of(piece.part), bytes, rank_);
    next += bytes;
  }
}

void NcclCalls::all_to_all(const Tensor& output, const std::vector<int64_t>& output_counts,
                           const Tensor& input, const std::vector<int64_t>& input_counts) const {
  const int64_t element = size_of(input.dtype());
  const char* next_out = address_of(input);
  char* next_in = address_of(output);
  for (size_t peer = 0; peer < input_counts.size(); ++peer) {
    const int64_t sent = input_counts[peer] * element, received = output_counts[peer] * element;
    send_bytes(next_out, sent, static_cast<int>(peer));
    recv_bytes(next_in, received, static_cast<int>(peer));
    next_out += sent;
    next_in += received;
  }
}

void NcclCalls::send(const Tensor& tensor, int to) const {
  send_bytes(address_of(tensor), tensor.nbytes(), to);
}

void NcclCalls::recv(const Tensor& tensor, int from) const {
  recv_bytes(address_of(tensor), tensor.nbytes(), from);
}

void NcclCalls::send_bytes(const char* data, int64_t bytes, int to) const {
  if (bytes == 0) return;
  check_nccl(ncclSend(data, static_cast<size_t>(bytes), ncclUint8, to, comm_, handle(stream_)),
             "ncclSend");
}

void NcclCalls::recv_bytes(char* data, int64_t bytes, int from) const {
  if (bytes == 0) return;
  check_nccl(ncclRecv(data, static_cast<size_t>(bytes), ncclUint8, from, comm_, handle(stream_)),
             "ncclRecv");
}

}  // namespace tendril::dist
