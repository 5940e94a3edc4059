// Private to dist: the collectives of process_group.h as calls to NCCL. Tensors are on the GPU; the
// calls belong into one group.
#pragma once

#include <vector>

#include <tendril/core/cuda.h>
#include <tendril/dist/process_group.h>

struct ncclComm;

namespace tendril::dist {

class NcclCalls {
 public:
  NcclCalls(ncclComm* comm, const cuda::Stream& stream, int rank, int size)
      : comm_(comm), stream_(stream.handle()), rank_(rank), size_(size) {}

  void all_reduce(const Tensor& tensor, ReduceOp op) const;
  /// Part and whole have the same dtype.
  void reduce_scatter(const Piece& piece, ReduceOp op) const;
  void all_gather(const Piece& piece) const;
  void broadcast(const Tensor& tensor, int root) const;
  void gather(const Piece& piece, int root) const;
  void all_to_all(const Tensor& output, const std::vector<int64_t>& output_counts,
                  const Tensor& input, const std::vector<int64_t>& input_counts) const;
  void send(const Tensor& tensor, int to) const;
  void recv(const Tensor& tensor, int from) const;

 private:
  void send_bytes(const char* data, int64_t bytes, int to) const;
  void recv_bytes(char* data, int64_t bytes, int from) const;

  ncclComm* comm_;
  void* stream_;  // a cudaStream_t
  int rank_, size_;
};

}  // namespace tendril::dist
