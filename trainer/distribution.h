// The processes that train together, as the Trainer sees them. With a single one nothing here waits
// or copies.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <tendril/dist/data_parallel.h>
#include <tendril/dist/fully_sharded.h>
#include <tendril/dist/process_group.h>
#include <tendril/trainer/callback.h>
#include <tendril/trainer/data/data_loader.h>
#include <tendril/trainer/optimizer_choice.h>
#include <tendril/trainer/sharding_plan.h>
#include <tendril/trainer/training_arguments.h>

namespace tendril {

class Distribution {
 public:
  /// Without a group: that of the environment, one for all Trainers of the process.
  Distribution(const TrainingArguments& args, std::shared_ptr<dist::ProcessGroup> group);
  /// Gives the model its whole parameters back; collective, unless an Error is on its way.
  ~Distribution();
  Distribution(const Distribution&) = delete;
  Distribution& operator=(const Distribution&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  int local_rank() const { return local_rank_; }
  bool is_first() const { return rank_ == 0; }
  bool is_first_of_machine() const { return local_rank_ == 0; }
  /// What the first process's seed becomes here: dropout differs from process to process.
  uint64_t seed_here(uint64_t seed) const;
  const std::shared_ptr<dist::ProcessGroup>& group() const { return group_; }

  // ---- the model

  /// Spreads a model as the arguments say. Collective.
  void spread(nn::Module& model);
  /// Null for data parallel and for one process.
  dist::FullySharded* sharded() const { return sharded_.get(); }
  const ShardingPlan& plan() const { return plan_; }
  /// What an optimizer gets in place of the model's parameters: this process's parts.
  ParameterGroups parts_of(ParameterGroups groups) const;
  /// This process's parts, or the model's parameters that train.
  std::vector<NamedTensor> trained_parameters(const nn::Module& model) const;
  /// Backward passes exchange nothing while it lives; for all batches of a step but the last.
  std::unique_ptr<dist::NoSync> pause_exchange(bool is_last_batch);
  void before_forward();
  /// Error for an optimizer that cannot work on what this process has.
  void check_optimizer(const optim::Optimizer& optimizer) const;

  // ---- agreeing

  /// Named in the messages of operations between processes that fail.
  void note_step(int64_t step);

  /// Sums over all processes; each number on its own.
  std::vector<double> sum(const std::vector<double>& values) const;
  int64_t sum(int64_t value) const;
  /// Runs a job in the first process alone, and gives its text, or throws its Error, in all.
  std::string run_on_first(const std::function<std::string()>& job) const;
  /// The first process's metrics: clocks and a program's own metrics may differ.
  Metrics of_first(const Metrics& metrics) const;
  /// One text from every process.
  std::vector<std::string> gather_text(const std::string& text) const;
  double clip_grad_norm(const std::vector<Tensor>& parameters, double max_norm) const;
  double grad_norm(const std::vector<Tensor>& parameters) const;

  // ---- evaluation

  /// How many of a batch's examples are the dataset's own; the rest repeat its beginning, so that
  /// all processes have equally many batches.
  int64_t real_examples(const DataLoader& loader, int64_t batch, int64_t examples) const;
  /// The batches' tensors of all processes, in the order of the dataset, on the CPU.
  std::vector<Tensor> gather_batches(const std::vector<Tensor>& batches) const;

 private:
  std::shared_ptr<dist::ProcessGroup> shard_group(dist::ProcessGroup& group) const;

  const TrainingArguments& args_;
  std::shared_ptr<dist::ProcessGroup> group_;  // null: one process
  int rank_ = 0, size_ = 1, local_rank_ = 0;
  ShardingPlan plan_;
  std::unique_ptr<dist::DistributedDataParallel> data_parallel_;
  std::unique_ptr<dist::FullySharded> sharded_;
};

}  // namespace tendril
