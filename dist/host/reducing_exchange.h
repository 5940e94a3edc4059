// Private to dist: every rank gets from all others the numbers that it adds up.
#pragma once

#include <vector>

#include <tendril/dist/host/transport.h>
#include <tendril/dist/process_group.h>

namespace tendril::dist::host {

using Outgoing = std::vector<std::vector<ConstBytes>>;  // blocks for each rank
using Incoming = std::vector<std::vector<Bytes>>;       // blocks from each rank

/// Numbers that this rank adds up: its own, and where the sums go, which may be the same place.
struct Summand {
  Bytes mine, out;
  DType from, to;
};

/// `outgoing` says what this rank sends to each other one, in the blocks in which that one adds it
/// up; its own entry is empty.
void add_up(Transport& transport, const Outgoing& outgoing, const std::vector<Summand>& summands,
            ReduceOp op);

}  // namespace tendril::dist::host
