#include <tendril/core/creation.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/gradient_norm.h>
#include <tendril/dist/sharding/shard_layout.h>
#include <tendril/dist/sharding/sharding_engine.h>

#include <algorithm>
#include <cctype>
#include <cmath>

namespace tendril::dist {

namespace {

struct StrategyName {
  ShardingStrategy strategy;
  const char* name;
  std::vector<std::string> aliases;  // without case, dashes and underscores
};

const std::vector<StrategyName>& strategy_names() {
  static const std::vector<StrategyName> kNames = {
      {ShardingStrategy::full_shard, "FULL_SHARD", {"fullshard", "1", "zero3"}},
      {ShardingStrategy::shard_grad_op, "SHARD_GRAD_OP", {"shardgradop", "2", "zero2", "zero1"}},
      {ShardingStrategy::no_shard, "NO_SHARD", {"noshard", "3", "zero0"}},
      {ShardingStrategy::hybrid_shard, "HYBRID_SHARD", {"hybridshard", "4"}},
      {ShardingStrategy::hybrid_shard_zero2, "HYBRID_SHARD_ZERO2", {"hybridshardzero2", "5"}},
  };
  return kNames;
}

}  // namespace

ShardingStrategy sharding_strategy_from(const std::string& text) {
  std::string plain;
  for (const char c : text)
    if (c != '_' && c != '-')
      plain += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  std::string listed;
  for (const StrategyName& entry : strategy_names()) {
    if (std::find(entry.aliases.begin(), entry.aliases.end(), plain) != entry.aliases.end())
      return entry.strategy;
    listed += (listed.empty() ? "" : ", ") + std::string(entry.name);
  }
  fail("[sharding_strategy] \"", text, "\" is none of ", listed, ", 1 to 5, ZERO0 to ZERO3");
}

const char* name(ShardingStrategy strategy) {
  for (const StrategyName& entry : strategy_names())
    if (entry.strategy == strategy) return entry.name;
  return "";
}

FullySharded::FullySharded(nn::Module& model, std::shared_ptr<ProcessGroup> group,
                           const FullyShardedOptions& options)
    : engine_(std::make_unique<ShardingEngine>(model, std::move(group), options)) {}

FullySharded::~FullySharded() = default;

std::vector<NamedTensor> FullySharded::named_parameters() const {
  std::vector<NamedTensor> parameters;
  for (const ShardInfo& info : shards())
    if (info.trainable) parameters.push_back({info.name, info.part});
  return parameters;
}

std::vector<Tensor> FullySharded::parameters() const {
  std::vector<Tensor> parameters;
  for (const ShardInfo& info : shards())
    if (info.trainable) parameters.push_back(info.part);
  return parameters;
}

const std::vector<ShardInfo>& FullySharded::shards() const { return engine_->shards(); }

NoSync FullySharded::no_sync() { return engine_->reducer().no_sync(); }
GradientReducer& FullySharded::reducer() { return engine_->reducer(); }

void FullySharded::zero_grad() {
  engine_->forget_gradients();
  for (Tensor& part : parameters()) part.set_grad({});
}

double FullySharded::grad_norm(double norm_type) const {
  const bool is_two = norm_type == 2.0;
  TENDRIL_CHECK(is_two || std::isinf(norm_type),
                "[grad_norm] norm_type must be 2 or infinity; got ", norm_type);
  double total = 0.0;
  for (const ShardInfo& info : shards()) {
    const Tensor gradient = info.part.grad();
    if (!gradient.defined()) continue;
    const double own = is_two ? ops::sum_of_squares(gradient) : ops::largest_magnitude(gradient);
    total = is_two || std::isnan(own) ? total + own : std::max(total, own);
  }
  // A NaN is larger than nothing, so a maximum would lose it: it travels as a sum of its own.
  const Tensor sums = Tensor::from({is_two ? total : 0.0, std::isnan(total) ? total : 0.0}, {2});
  const Tensor largest = full({1}, is_two || std::isnan(total) ? 0.0 : total, f64);
  engine_->shard_group().all_reduce(sums).wait();
  if (!is_two) engine_->shard_group().all_reduce(largest, ReduceOp::max).wait();
  const std::vector<double> summed = sums.to_vector<double>();
  if (is_two) return std::sqrt(summed[0]);
  return summed[1] + largest.item<double>();
}

double FullySharded::clip_grad_norm(double max_norm, double norm_type) {
  TENDRIL_CHECK(max_norm > 0.0, "[clip_grad_norm] max_norm must be positive; got ", max_norm);
  const double norm = grad_norm(norm_type);
  std::vector<Tensor> gradients;
  for (const ShardInfo& info : shards())
    if (info.part.grad().defined()) gradients.push_back(info.part.grad());
  if (gradients.empty()) return norm;
  ops::clip_all(gradients, full({}, norm, f64, gradients[0].device()), max_norm);
  for (const Tensor& gradient : gradients) gradient.bump_version();
  return norm;
}

void FullySharded::reshard() { engine_->release_all(); }
void FullySharded::restore() { engine_->restore(); }

const std::shared_ptr<ProcessGroup>& FullySharded::group() const { return engine_->group(); }
ShardingStrategy FullySharded::strategy() const { return engine_->options().strategy; }
size_t FullySharded::unit_count() const { return engine_->units().size(); }

int64_t FullySharded::part_bytes() const {
  int64_t bytes = 0;
  for (const ShardInfo& info : shards()) bytes += info.part.nbytes();
  return bytes;
}

int64_t FullySharded::gathered_bytes() const {
  int64_t bytes = 0;
  for (const ShardedUnit& unit : engine_->units()) bytes += unit.gathered_bytes();
  return bytes;
}

}  // namespace tendril::dist
