// Whole states in and out of a sharded model.
#include <tendril/autograd/functions.h>
#include <tendril/core/ops/copy.h>
#include <tendril/dist/sharding/shard_layout.h>
#include <tendril/dist/sharding/sharding_engine.h>

#include <algorithm>

namespace tendril::dist {
namespace {

Tensor on_cpu(const Tensor& x) {
  const Tensor dense = ops::contiguous(ops::raw(x));
  if (dense.device().is_cpu()) return dense;
  const Tensor here = Tensor::empty(dense.shape(), dense.dtype());
  ops::copy(here, dense);
  return here;
}

// A whole state by the sharded parameters' names, in which a tied one may come under any of its
// names.
class WholeState {
 public:
  WholeState(const StateDict& state, const nn::Module& model) {
    const std::vector<NamedTensor> parameters = model.named_parameters();
    const StateDict known = model.state_dict();
    for (const auto& [name, tensor] : state) {
      const std::string first = first_name(name, model, parameters);
      if (!known.count(first))
        problems_ += detail::concat("\n  unexpected: \"", name, '"');
      else
        take(first, tensor, known.at(first).shape());
    }
    for (const auto& [name, tensor] : known)
      if (!tensors_.count(name)) problems_ += detail::concat("\n  missing: \"", name, '"');
  }
  const std::string& problems() const { return problems_; }
  const Tensor& at(const std::string& name) const { return tensors_.at(name); }

 private:
  static std::string first_name(const std::string& name, const nn::Module& model,
                                const std::vector<NamedTensor>& parameters) {
    for (const NamedTensor& entry : parameters)
      if (entry.name == name) return name;
    try {
      const Tensor tied = model.parameter(name);
      for (const NamedTensor& entry : parameters)
        if (entry.tensor.is_same(tied)) return entry.name;
    } catch (const Error&) {  // no parameter: a buffer, or unexpected
    }
    return name;
  }
  void take(const std::string& name, const Tensor& tensor, const Shape& shape) {
    if (tensor.shape() != shape)
      problems_ += detail::concat("\n  \"", name, "\" is ", tensor.shape(), ", not ", shape);
    else
      tensors_.emplace(name, tensor);
  }

  StateDict tensors_;
  std::string problems_;
};

}  // namespace

StateDict FullySharded::full_state_dict(bool on_all_ranks) const {
  ProcessGroup& group = engine_->shard_group();
  const bool keeps = on_all_ranks || engine_->group()->rank() == 0;
  StateDict state;
  for (const ShardInfo& info : shards()) {
    const Tensor part = ops::raw(info.part);
    const bool receives = on_all_ranks || group.rank() == 0;
    Tensor whole;
    if (receives) whole = Tensor::empty(info.shape, part.dtype(), part.device());
    if (on_all_ranks)
      group.all_gather({{whole, part, info.counts}}).wait();
    else
      group.gather({{whole, part, info.counts}}, 0).wait();
    if (keeps) state.emplace(info.name, on_cpu(whole));
  }
  if (!keeps) return state;
  for (const auto& [name, tensor] : engine_->model().state_dict())  // buffers, ignored parameters
    if (!state.count(name)) state.emplace(name, ops::clone(on_cpu(tensor)));
  return state;
}

void FullySharded::load_full_state_dict(const StateDict& state, bool from_rank_zero) {
  ProcessGroup& group = *engine_->group();
  ProcessGroup& shard_group = engine_->shard_group();
  const bool has_state = !from_rank_zero || group.rank() == 0;
  std::optional<WholeState> given;
  if (has_state) given.emplace(state, engine_->model());
  std::string problems = given ? given->problems() : "";
  if (from_rank_zero) problems = group.broadcast_text(problems, 0);
  TENDRIL_CHECK(problems.empty(),
                "[load_full_state_dict] the state does not fit the model:", problems);

  engine_->release_all();
  const auto whole_of = [&](const std::string& name, const Shape& shape, DType dtype) {
    if (!from_rank_zero) return given->at(name);
    const Tensor whole =
        given ? ops::cast(on_cpu(given->at(name)), dtype) : Tensor::empty(shape, dtype);
    group.broadcast({whole}, 0).wait();
    return whole;
  };
  for (const ShardInfo& info : shards()) {
    const Tensor whole = whole_of(info.name, info.shape, info.part.dtype());
    const Tensor flat = reshape(ops::contiguous(ops::raw(whole)), {whole.numel()});
    const int64_t begin = elements_before(info.counts, shard_group.rank());
    const Tensor rows = slice(flat, 0, begin, begin + info.part.numel());
    ops::copy(reshape(ops::raw(info.part), {info.part.numel()}), rows);
    info.part.bump_version();
  }
  for (const auto& [name, tensor] : engine_->model().state_dict()) {
    const auto is_sharded = [&, &name = name](const ShardInfo& info) { return info.name == name; };
    if (std::any_of(shards().begin(), shards().end(), is_sharded)) continue;
    ops::copy(tensor, whole_of(name, tensor.shape(), tensor.dtype()));
    tensor.bump_version();
  }
}

}  // namespace tendril::dist
