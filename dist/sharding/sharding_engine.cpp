#include <tendril/autograd/after_backward.h>
#include <tendril/core/creation.h>
#include <tendril/core/op_timer.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/pointwise.h>
#include <tendril/dist/same_model.h>
#include <tendril/dist/sharding/shard_layout.h>
#include <tendril/dist/sharding/sharding_engine.h>
#include <tendril/dist/sharding/wrap_policy.h>

#include <algorithm>

namespace tendril::dist {
namespace {

// How many reductions may be on their way; each holds a unit's whole gradients.
constexpr size_t kReductionsInFlight = 2;

bool is_hybrid(ShardingStrategy strategy) {
  return strategy == ShardingStrategy::hybrid_shard ||
         strategy == ShardingStrategy::hybrid_shard_zero2;
}

}  // namespace

void* GatheredMemory::provide() {
  TENDRIL_CHECK(engine_,
                "[FullySharded] a sharded parameter was read after its FullySharded was "
                "gone; call restore() before, or keep it as long as the model");
  return engine_->provide(unit_, index_);
}

ShardingEngine::ShardingEngine(nn::Module& model, std::shared_ptr<ProcessGroup> group,
                               const FullyShardedOptions& options)
    : model_(model), group_(std::move(group)), options_(options) {
  for (const NamedTensor& parameter : model_.named_parameters())
    TENDRIL_CHECK(
        !parameter.tensor.storage()->is_on_demand(),
        "[FullySharded] the model is sharded already; end the Trainer or FullySharded that "
        "has it, or call its restore()");
  split_group();
  require_same_model(*group_, model_);
  if (options_.sync_module_states) {
    broadcast_state(*group_, model_.named_parameters());
    broadcast_state(*group_, model_.named_buffers());
  }
  if (options_.buffer_dtype)
    for (NamedTensor& buffer : model_.named_buffers())
      if (is_floating(buffer.tensor.dtype()))
        buffer.tensor.set_data(ops::cast(ops::raw(buffer.tensor), *options_.buffer_dtype));
  make_units();
}

ShardingEngine::~ShardingEngine() {
  reducer_.reset();
  for (const auto& memory : memories_) memory->forget_engine();
}

// ---------------------------------------------------------------- cutting

void ShardingEngine::split_group() {
  if (options_.strategy == ShardingStrategy::no_shard) {
    shard_group_ = single_process_group();
    replicas_ = group_;
  } else if (is_hybrid(options_.strategy)) {
    TENDRIL_CHECK(options_.shard_group, "[FullySharded] ", name(options_.strategy),
                  " needs shard_group, the ranks that share one copy; make it with "
                  "group->split(machine)");
    shard_group_ = options_.shard_group;
    TENDRIL_CHECK(group_->size() % shard_group_->size() == 0, "[FullySharded] ", group_->size(),
                  " ranks do not divide into groups of ", shard_group_->size());
    replicas_ = group_->split(shard_group_->rank());
  } else {
    shard_group_ = group_;
  }
  if (replicas_ && replicas_->size() == 1) replicas_ = nullptr;
}

bool ShardingEngine::releases_between_uses() const {
  return options_.strategy == ShardingStrategy::full_shard ||
         options_.strategy == ShardingStrategy::hybrid_shard;
}

// Where whole parameters stay, the part needs no memory of its own.
bool ShardingEngine::parts_lie_in_wholes() const {
  return !releases_between_uses() && !options_.param_dtype && !options_.cpu_offload;
}

namespace {

// Before anything is cut, so that an Error leaves the model as it was.
void check_units(const std::vector<UnitParameters>& units,
                 const std::vector<NamedTensor>& parameters) {
  for (const NamedTensor& parameter : parameters) {
    TENDRIL_CHECK(parameter.tensor.is_contiguous(), "[FullySharded] \"", parameter.name,
                  "\" must be dense; got strides ", parameter.tensor.strides());
    const bool is_sharded = std::any_of(units.begin(), units.end(), [&](const auto& unit) {
      return std::any_of(unit.parameters.begin(), unit.parameters.end(),
                         [&](const NamedTensor& other) { return other.name == parameter.name; });
    });
    TENDRIL_CHECK(is_sharded || !parameter.tensor.requires_grad(), "[FullySharded] \"",
                  parameter.name,
                  "\" is in ignored_modules, where nobody averages its gradient; freeze it with "
                  "requires_grad_(false)");
  }
}

}  // namespace

void ShardingEngine::make_units() {
  const std::vector<NamedTensor> all = model_.named_parameters();
  const auto counts = shard_counts(all, options_.partition, shard_group_->size());
  std::vector<std::vector<NamedTensor>> groups;
  const std::vector<UnitParameters> divided =
      divide_into_units(model_, options_.wrap, options_.ignored_modules);
  check_units(divided, all);
  for (const UnitParameters& unit : divided) {
    std::vector<ShardedParameter> parameters;
    std::vector<NamedTensor> trainable;
    for (const NamedTensor& parameter : unit.parameters) {
      const auto same = [&](const NamedTensor& other) { return other.name == parameter.name; };
      const auto index = std::find_if(all.begin(), all.end(), same) - all.begin();
      memories_.push_back(std::make_shared<GatheredMemory>(this, units_.size(), parameters.size()));
      parameters.push_back(shard(parameter, counts[static_cast<size_t>(index)]));
      if (parameters.back().info.trainable) trainable.push_back(parameter);
    }
    units_.emplace_back(unit.name, std::move(parameters));
    groups.push_back(std::move(trainable));
  }
  for (const NamedTensor& parameter : all)  // in the model's order
    for (const ShardedUnit& unit : units_)
      for (const ShardedParameter& sharded : unit.parameters())
        if (sharded.info.name == parameter.name) shards_.push_back(sharded.info);
  reducer_ = std::make_unique<GradientReducer>(
      std::move(groups),
      GradientExchange{[this](size_t unit) { start_reduction(unit); },
                       [this] { finish_reductions(); }, [this] { forget_gradients(); }});
}

// Copies this rank's part out of a parameter, whose memory becomes that of memories_.back().
ShardedParameter ShardingEngine::shard(const NamedTensor& parameter,
                                       const std::vector<int64_t>& counts) {
  const int rank = shard_group_->rank();
  Tensor whole = parameter.tensor;
  ShardedParameter sharded;
  sharded.info.name = parameter.name;
  sharded.info.shape = whole.shape();
  sharded.info.counts = counts;
  sharded.info.trainable = whole.requires_grad();
  const int64_t count = counts[static_cast<size_t>(rank)], before = elements_before(counts, rank);
  const Shape shape = part_shape(whole.shape(), count);
  if (whole.rank() > 0 && whole.numel() > 0)
    sharded.info.row_begin = before / (whole.numel() / whole.size(0));

  const Tensor memory = ops::raw(whole).detach();
  Tensor part = Tensor::view(memory.storage(), memory.offset() + (count == 0 ? 0 : before), shape,
                             contiguous_strides(shape), memory.dtype());
  if (parts_lie_in_wholes()) {
    sharded.resident = true;
    sharded.memory = memory;
  } else {
    const LastingMemoryScope lasting;
    const Tensor own = Tensor::empty(shape, memory.dtype(),
                                     options_.cpu_offload ? Device::cpu() : memory.device());
    ops::copy(own, part);
    part = own;
  }
  if (sharded.info.trainable) part.requires_grad_();
  sharded.info.part = part;
  sharded.part_version = part.storage()->version();

  const DType dtype = options_.param_dtype.value_or(whole.dtype());
  const int64_t bytes = whole.numel() * size_of(dtype);
  whole.set_data(Tensor::view(Storage::on_demand(bytes, whole.device(), memories_.back()), 0,
                              sharded.info.shape, contiguous_strides(sharded.info.shape), dtype));
  sharded.whole = whole;
  return sharded;
}

void ShardingEngine::restore() {
  release_all();
  reducer_.reset();
  for (ShardedUnit& unit : units_) {
    for (ShardedParameter& parameter : unit.parameters()) {
      const ShardInfo& info = parameter.info;
      if (!parameter.resident || shard_group_->size() > 1) {
        const Tensor whole = Tensor::empty(info.shape, info.part.dtype(), info.part.device());
        shard_group_->all_gather({{whole, ops::raw(info.part), info.counts}}).wait();
        parameter.memory = Tensor::empty(info.shape, info.part.dtype(), parameter.whole.device());
        ops::copy(parameter.memory, whole);
      }
      parameter.whole.set_data(parameter.memory);
      parameter.memory = {};
    }
  }
}

// ---------------------------------------------------------------- gathering

void* ShardingEngine::provide(size_t unit, size_t index) {
  const std::lock_guard lock(mutex_);
  const uint64_t operation = detail::operations_begun;
  ShardedUnit& entered = units_[unit];
  if (current_ != unit || entered.state() != ShardedUnit::State::gathered || !entered.used ||
      phase_ != (in_backward() ? backward : forward) || entered.is_stale())
    enter(unit, operation);
  entered.last_operation = operation;
  return entered.parameters()[index].memory.raw_data();
}

void ShardingEngine::enter(size_t unit, uint64_t operation) {
  begin_phase(in_backward() ? backward : forward);
  ShardedUnit& entered = units_[unit];
  for (ShardedUnit& other : units_)
    if (&other != &entered && may_release(other, operation)) other.release();
  if (entered.state() != ShardedUnit::State::released && entered.is_stale()) entered.release();
  if (entered.state() == ShardedUnit::State::released) entered.start_gather(*shard_group_);
  current_ = unit;
  prefetch(unit);
  if (entered.state() == ShardedUnit::State::gathering) entered.finish_gather();
  entered.used = true;
}

// A unit that the same operation has read must stay: a kernel may hold its address.
bool ShardingEngine::may_release(const ShardedUnit& unit, uint64_t operation) const {
  const bool is_kept_root = units_.size() > 1 && &unit == &units_[0];
  return releases_between_uses() && !is_kept_root && unit.used && unit.last_operation != operation;
}

void ShardingEngine::begin_phase(Phase phase) {
  if (phase == backward && pass_.expired()) {
    const auto pass = std::make_shared<int>();
    pass_ = pass;
    synced_ = false;
    order_[backward].restart();
    after_backward([this, pass] {
      order_[forward].restart();
      if (synced_ || releases_between_uses()) release_all();
    });
  }
  phase_ = phase;
}

size_t ShardingEngine::prefetch_depth(Phase phase) const {
  const bool wanted = phase == forward ? options_.forward_prefetch
                                       : options_.backward_prefetch != BackwardPrefetch::none;
  return !wanted ? 0 : options_.limit_all_gathers ? 1 : 2;
}

void ShardingEngine::prefetch(size_t unit) {
  for (const size_t next : order_[phase_].next_after(unit, prefetch_depth(phase_))) {
    ShardedUnit& expected = units_[next];
    if (expected.state() == ShardedUnit::State::released) expected.start_gather(*shard_group_);
  }
}

void ShardingEngine::release_all() {
  for (ShardedUnit& unit : units_) unit.release();
}

// ---------------------------------------------------------------- gradients

// The whole gradient, dense, in the dtype that travels; the parameter's own is cleared.
Tensor ShardingEngine::gradient_to_reduce(ShardedParameter& parameter) const {
  Tensor gradient = parameter.whole.grad();
  parameter.whole.set_grad({});
  DType dtype = options_.reduce_dtype.value_or(parameter.whole.dtype());
  if (shard_group_->size() == 1) dtype = parameter.info.part.dtype();  // nothing widens it later
  if (!gradient.defined())  // not used here, but perhaps elsewhere
    return zeros(parameter.whole.shape(), dtype, parameter.whole.device());
  return ops::cast(ops::contiguous(gradient), dtype);
}

void ShardingEngine::start_reduction(size_t unit) {
  synced_ = true;
  Reduction reduction{unit, {}, {}};
  std::vector<Piece> pieces;
  for (ShardedParameter& parameter : units_[unit].parameters()) {
    const ShardInfo& info = parameter.info;
    if (!info.trainable) continue;
    Tensor whole = gradient_to_reduce(parameter);
    const Tensor part = shard_group_->size() == 1
                            ? whole
                            : Tensor::empty(info.part.shape(), info.part.dtype(), whole.device());
    reduction.gradients.push_back(part);
    pieces.push_back({std::move(whole), part, info.counts});
  }
  if (shard_group_->size() > 1 && !pieces.empty())
    reduction.works.push_back(shard_group_->reduce_scatter(std::move(pieces), ReduceOp::avg));
  if (replicas_ && !reduction.gradients.empty())
    reduction.works.push_back(replicas_->all_reduce(reduction.gradients, ReduceOp::avg));
  reductions_.push_back(std::move(reduction));
  if (reductions_.size() > kReductionsInFlight)
    for (Work& work : reductions_[reductions_.size() - 1 - kReductionsInFlight].works) work.wait();
}

void ShardingEngine::settle(Reduction& reduction) {
  for (const Work& work : reduction.works) work.wait();
  size_t next = 0;
  for (ShardedParameter& parameter : units_[reduction.unit].parameters()) {
    if (!parameter.info.trainable) continue;
    Tensor gradient = reduction.gradients[next++];
    Tensor& part = parameter.info.part;
    if (gradient.device() != part.device()) {
      const Tensor there = Tensor::empty(gradient.shape(), gradient.dtype(), part.device());
      ops::copy(there, gradient);
      gradient = there;
    }
    if (part.grad().defined())
      ops::accumulate(part.grad(), gradient);
    else
      part.set_grad(gradient);
  }
}

void ShardingEngine::forget_gradients() {
  reductions_.clear();
  for (ShardedUnit& unit : units_)
    for (ShardedParameter& parameter : unit.parameters())
      if (parameter.info.trainable) parameter.whole.set_grad({});
}

// Updates that gradients set off come last, when every rank has read all weights of this pass.
void ShardingEngine::finish_reductions() {
  std::vector<Reduction> reductions = std::move(reductions_);
  reductions_.clear();
  for (Reduction& reduction : reductions) settle(reduction);
  release_all();
  for (const Reduction& reduction : reductions)
    for (ShardedParameter& parameter : units_[reduction.unit].parameters())
      if (parameter.info.trainable) run_grad_complete_hooks(parameter.info.part);
}

}  // namespace tendril::dist
