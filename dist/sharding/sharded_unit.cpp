#include <tendril/core/ops/copy.h>
#include <tendril/dist/sharding/sharded_unit.h>

#include <algorithm>

namespace tendril::dist {

void ShardedUnit::start_gather(ProcessGroup& shard_group) {
  std::vector<Piece> pieces;
  for (ShardedParameter& parameter : parameters_) {
    const ShardInfo& info = parameter.info;
    const Tensor& whole = parameter.whole;
    if (parameter.part_version != info.part.storage()->version())
      whole.bump_version();  // what the tape has saved of it is gone
    parameter.whole_version = whole.storage()->version();
    if (!parameter.memory.defined())
      parameter.memory = Tensor::empty(whole.shape(), whole.dtype(), whole.device());
    Tensor part = ops::cast(ops::raw(info.part), whole.dtype());
    if (part.device() != whole.device()) {  // offloaded
      const Tensor here = Tensor::empty(part.shape(), part.dtype(), whole.device());
      ops::copy(here, part);
      part = here;
    }
    pieces.push_back({parameter.memory, part, info.counts});
  }
  work_ = shard_group.all_gather(std::move(pieces));
  for (ShardedParameter& parameter : parameters_)  // the call itself may count as a change
    parameter.part_version = parameter.info.part.storage()->version();
  state_ = State::gathering;
  used = false;
}

void ShardedUnit::finish_gather() {
  work_.wait();
  work_ = {};
  state_ = State::gathered;
}

void ShardedUnit::release() {
  if (state_ == State::released) return;
  if (state_ == State::gathering) finish_gather();
  state_ = State::released;
  used = false;
  for (ShardedParameter& parameter : parameters_)
    if (!parameter.resident) parameter.memory = {};
  require_unwritten();
}

void ShardedUnit::require_unwritten() const {
  for (const ShardedParameter& parameter : parameters_)
    TENDRIL_CHECK(parameter.whole.storage()->version() == parameter.whole_version,
                  "[FullySharded] \"", parameter.info.name,
                  "\" was written to while it was gathered, which is lost; change the parts "
                  "(named_parameters()), or load_full_state_dict()");
}

bool ShardedUnit::is_stale() const {
  return std::any_of(parameters_.begin(), parameters_.end(), [](const ShardedParameter& parameter) {
    return parameter.part_version != parameter.info.part.storage()->version();
  });
}

int64_t ShardedUnit::gathered_bytes() const {
  int64_t bytes = 0;
  for (const ShardedParameter& parameter : parameters_)
    if (parameter.memory.defined()) bytes += parameter.memory.nbytes();
  return bytes;
}

}  // namespace tendril::dist
