// Fully sharded data parallel (Zhao et al. 2023, "PyTorch FSDP"; Rajbhandari et al. 2020, "ZeRO"):
// ranks work on their own batches, and each keeps its part of gradients, optimizer state and,
// depending on the strategy, weights.
//
//   dist::FullySharded fsdp(model, group, {.wrap = dist::wrap_class("Gpt2Block")});
//   optim::AdamW optimizer(fsdp.named_parameters(), {.lr = 3e-4});     // of the parts
//   for (...) {
//     model.loss(tokens, targets).backward();
//     fsdp.clip_grad_norm(1.0);
//     optimizer.step();
//     optimizer.zero_grad();
//   }
//
// A unit is a group of parameters that are gathered and reduced together. Gathering needs no help
// from the model: a parameter's memory asks for its numbers when an operation first reads it, in
// forward, in backward, and when it is recomputed. Any Module can be sharded, whatever its forward
// looks like, and calling parts of it works.
//
// Between steps a parameter's numbers are its parts, which optimizers update. Reading a parameter
// anywhere gathers its unit; that is a collective: all ranks must do it. What is written into a
// gathered parameter is lost, and an Error says so.
//
// In full_shard a unit is released when an operation first reads another one. The root unit stays
// from its first use in forward to the end of backward, as its parts tend to be used at both ends.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <tendril/core/named_tensor.h>
#include <tendril/dist/gradient_reducer.h>
#include <tendril/dist/process_group.h>
#include <tendril/nn/module.h>

namespace tendril::dist {

class ShardingEngine;  // private to dist

/// What each rank keeps only its part of, and between which ranks.
///   full_shard     weights, gradients, optimizer state        ZeRO-3
///   shard_grad_op  gradients and optimizer state              ZeRO-2 (ZeRO-1 with no_sync() for
///   all
///                                                             but the last backward of a step)
///   no_shard       nothing: data parallel                     ZeRO-0
///   hybrid_*       as above within `shard_group`, replicated between such groups
enum class ShardingStrategy {
  full_shard,
  shard_grad_op,
  no_shard,
  hybrid_shard,
  hybrid_shard_zero2
};

/// "FULL_SHARD", "full_shard", "1", ..., "ZERO1", "zero2", "ZeRO-3". Error that lists the names.
TENDRIL_API ShardingStrategy sharding_strategy_from(const std::string& name);
TENDRIL_API const char* name(ShardingStrategy strategy);

/// How a parameter is cut.
///   rows   along its first axis, as evenly as possible: ceil(rows / N) each, the last ranks fewer
///   whole  not at all: each parameter belongs to one rank, such that their bytes are balanced. For
///          optimizers that look at whole matrices (Muon, Adafactor, GaLore, AdaLomo, ...).
enum class Partition { rows, whole };

/// Names of the modules of a model that become units of their own; the rest is the root unit.
using WrapPolicy = std::function<std::vector<std::string>(nn::Module& model)>;
/// Every module of these classes (TRANSFORMER_BASED_WRAP). Error when the model has none of a
/// class.
TENDRIL_API WrapPolicy wrap_class(std::vector<std::string> classes);
/// Modules with at least this many parameters that no unit below them has (SIZE_BASED_WRAP).
TENDRIL_API WrapPolicy wrap_size(int64_t min_num_params);

enum class BackwardPrefetch { none, pre, post };

struct FullyShardedOptions {
  ShardingStrategy strategy = ShardingStrategy::full_shard;
  WrapPolicy wrap = {};  // none: the whole model is one unit
  Partition partition = Partition::rows;
  /// Dtype of gathered weights and of computing; the parts stay in the dtype the model had.
  std::optional<DType> param_dtype = {};
  std::optional<DType> reduce_dtype = {};  // of gradients on the wire; default: as they are
  std::optional<DType> buffer_dtype = {};
  /// Gather the next unit while this one computes; the order is that of the first pass.
  bool forward_prefetch = true;
  BackwardPrefetch backward_prefetch = BackwardPrefetch::pre;
  bool limit_all_gathers = true;   // one unit ahead of the one that computes, otherwise two
  bool cpu_offload = false;        // parts, and so gradients and optimizer state, stay on the CPU
  bool sync_module_states = true;  // rank 0's weights and buffers count
  std::vector<std::string> ignored_modules = {};  // regular expressions of full names: not touched
  /// hybrid_*: the ranks that share one copy. Default: those of this machine.
  std::shared_ptr<ProcessGroup> shard_group = nullptr;
};

/// How a parameter is stored.
struct ShardInfo {
  std::string name;
  Shape shape;                  // of the whole
  std::vector<int64_t> counts;  // elements of each rank of the shard group
  Tensor part;                  // this rank's: (rows, ...) for rows, else the whole or nothing
  int64_t row_begin = 0;        // first row of the part
  bool trainable = true;
};

class TENDRIL_API FullySharded {
 public:
  /// Collective. Checks that all ranks have the same names, shapes and dtypes, cuts the parameters
  /// and releases the rest. Tied parameters stay one. The model must outlive this, and keeps its
  /// sharded parameters until then; afterwards it has whole ones again when `restore` was called.
  FullySharded(nn::Module& model, std::shared_ptr<ProcessGroup> group,
               const FullyShardedOptions& options = {});
  ~FullySharded();
  FullySharded(const FullySharded&) = delete;
  FullySharded& operator=(const FullySharded&) = delete;

  /// This rank's parts of the trainable parameters under the model's names: what an optimizer gets.
  /// A part may have no elements. Their .grad is the mean over all ranks.
  std::vector<NamedTensor> named_parameters() const;
  std::vector<Tensor> parameters() const;
  /// Of all parameters, frozen ones included, in the model's order.
  const std::vector<ShardInfo>& shards() const;

  /// While it lives, backward passes keep whole gradients and exchange nothing; the first pass
  /// after it exchanges the sums.
  NoSync no_sync();
  GradientReducer& reducer();

  /// Forgets all gradients: of the parts, which an optimizer's zero_grad() clears as well, and
  /// those of whole parameters that passes under no_sync() have left.
  void zero_grad();

  /// As optim::clip_grad_norm, for the gradients of all ranks. Collective.
  double clip_grad_norm(double max_norm, double norm_type = 2.0);
  double grad_norm(double norm_type = 2.0) const;

  /// Whole parameters and persistent buffers, on the CPU, on rank 0 (elsewhere nothing) or on all
  /// ranks. One parameter at a time is whole on the others. Collective.
  StateDict full_state_dict(bool on_all_ranks = false) const;
  /// Takes this rank's parts from whole tensors, which may be views of a mapped file. With
  /// `from_rank_zero` only rank 0 needs to have them. Collective. Errors as
  /// Module::load_state_dict.
  void load_full_state_dict(const StateDict& state, bool from_rank_zero = false);

  /// Releases what is gathered. Needed after writing into parts by other means than an optimizer's
  /// step after backward.
  void reshard();
  /// Makes the model's parameters ordinary, whole tensors again. Collective; then only the
  /// destructor may follow.
  void restore();

  const std::shared_ptr<ProcessGroup>& group() const;
  ShardingStrategy strategy() const;
  size_t unit_count() const;
  /// Bytes of this rank's parts, and of what is gathered at this moment.
  int64_t part_bytes() const;
  int64_t gathered_bytes() const;

 private:
  std::unique_ptr<ShardingEngine> engine_;
};

}  // namespace tendril::dist
