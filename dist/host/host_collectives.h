// Private to dist: the collectives on CPU tensors, in terms of what a Transport can do. They block.
//
// A sum is a reduce_scatter: every rank gets everyone's numbers for its part and adds them up in
// the order of the ranks. all_reduce then gathers the parts, which makes both agree to the bit.
#pragma once

#include <vector>

#include <tendril/dist/host/transport.h>
#include <tendril/dist/process_group.h>

namespace tendril::dist::host {

void all_reduce(Transport& transport, const std::vector<Tensor>& tensors, ReduceOp op);
void reduce_scatter(Transport& transport, const std::vector<Piece>& pieces, ReduceOp op);
void all_gather(Transport& transport, const std::vector<Piece>& pieces);
void broadcast(Transport& transport, const std::vector<Tensor>& tensors, int root);
void gather(Transport& transport, const std::vector<Piece>& pieces, int root);
void all_to_all(Transport& transport, const Tensor& output,
                const std::vector<int64_t>& output_counts, const Tensor& input,
                const std::vector<int64_t>& input_counts);

Bytes bytes_of(const Tensor& tensor);

}  // namespace tendril::dist::host
