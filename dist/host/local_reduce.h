// Private to dist: the sum of what all ranks sent, in the order of the ranks, rounded once.
#pragma once

#include <vector>

#include <tendril/core/cpu/isa.h>
#include <tendril/core/dtype.h>
#include <tendril/dist/process_group.h>

namespace tendril::dist {

struct LocalReduction {
  const void* const* sources;  // one per rank, each `count` numbers of dtype `from`
  int ranks;
  void* out;  // dtype `to`; may be one of the sources, not otherwise overlap them
  int64_t count;
  DType from, to;
  ReduceOp op;
};

/// out[i] = sources[0][i] op sources[1][i] op ..., computed in accumulate_dtype(to). A NaN wins
/// over maxima and minima; integers wrap around.
void reduce_locally(const LocalReduction& reduction);

}  // namespace tendril::dist

TENDRIL_DECLARE_ISA(void reduce_locally(const ::tendril::dist::LocalReduction& reduction))
