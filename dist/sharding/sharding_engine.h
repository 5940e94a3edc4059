// Private to dist: what stands behind FullySharded. It gathers units when operations read them,
// releases them, and reduces gradients.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include <tendril/dist/fully_sharded.h>
#include <tendril/dist/sharding/gather_order.h>
#include <tendril/dist/sharding/sharded_unit.h>

namespace tendril::dist {

class ShardingEngine;

/// The memory of one parameter.
class GatheredMemory : public StorageSource {
 public:
  GatheredMemory(ShardingEngine* engine, size_t unit, size_t index)
      : engine_(engine), unit_(unit), index_(index) {}
  void* provide() override;
  void forget_engine() { engine_ = nullptr; }

 private:
  ShardingEngine* engine_;
  size_t unit_, index_;
};

class ShardingEngine {
 public:
  ShardingEngine(nn::Module& model, std::shared_ptr<ProcessGroup> group,
                 const FullyShardedOptions& options);
  ~ShardingEngine();

  void* provide(size_t unit, size_t index);
  void release_all();
  /// Drops whole gradients, and those that are being reduced.
  void forget_gradients();
  /// Whole parameters again, in the parts' dtype.
  void restore();

  nn::Module& model() { return model_; }
  ProcessGroup& shard_group() const { return *shard_group_; }
  const std::shared_ptr<ProcessGroup>& group() const { return group_; }
  const FullyShardedOptions& options() const { return options_; }
  const std::vector<ShardInfo>& shards() const { return shards_; }
  GradientReducer& reducer() { return *reducer_; }
  const std::vector<ShardedUnit>& units() const { return units_; }

 private:
  enum Phase { forward, backward };

  void split_group();
  ShardedParameter shard(const NamedTensor& parameter, const std::vector<int64_t>& counts);
  void make_units();
  bool parts_lie_in_wholes() const;

  void enter(size_t unit, uint64_t operation);
  void begin_phase(Phase phase);
  bool may_release(const ShardedUnit& unit, uint64_t operation) const;
  void prefetch(size_t unit);
  size_t prefetch_depth(Phase phase) const;
  bool releases_between_uses() const;

  struct Reduction {
    size_t unit;
    std::vector<Tensor> gradients;  // of the trainable parameters' parts
    std::vector<Work> works;
  };
  void start_reduction(size_t unit);
  Tensor gradient_to_reduce(ShardedParameter& parameter) const;
  void settle(Reduction& reduction);
  void finish_reductions();

  nn::Module& model_;
  std::shared_ptr<ProcessGroup> group_, shard_group_, replicas_;  // replicas: of this rank's parts
  FullyShardedOptions options_;
  std::vector<ShardedUnit> units_;  // the root first
  std::vector<ShardInfo> shards_;   // in the model's order
  std::vector<std::shared_ptr<GatheredMemory>> memories_;
  std::unique_ptr<GradientReducer> reducer_;
  std::mutex mutex_;

  Phase phase_ = forward;
  GatherOrder order_[2];
  size_t current_ = 0;
  std::weak_ptr<int> pass_;            // the backward pass that runs
  std::vector<Reduction> reductions_;  // of it
  bool synced_ = false;                // it has reduced gradients
};

}  // namespace tendril::dist
