// Data parallel: every rank holds the whole model and works on its own batches; gradients are
// averaged while backward still runs.
//
//   dist::DistributedDataParallel ddp(model, group);
//   model.loss(tokens, targets).backward();     // .grad is the same on all ranks afterwards
//   optimizer.step();
#pragma once

#include <memory>

#include <tendril/dist/gradient_reducer.h>
#include <tendril/dist/process_group.h>
#include <tendril/nn/module.h>

namespace tendril::dist {

struct DataParallelOptions {
  double bucket_cap_mb = 25.0;    // gradients that travel together, in MiB
  bool broadcast_buffers = true;  // rank 0's buffers before each forward: sync_buffers()
  /// Parameters that a pass does not use are allowed; their gradients are those of the other ranks.
  /// Without it a pass that leaves one out is an Error that names it.
  bool find_unused_parameters = false;
};

class TENDRIL_API DistributedDataParallel {
 public:
  /// Collective. Error on all ranks that names the first parameter whose name, shape or dtype
  /// differs from rank 0's; then rank 0's numbers are everywhere. The model must outlive this.
  DistributedDataParallel(nn::Module& model, std::shared_ptr<ProcessGroup> group,
                          const DataParallelOptions& options = {});
  ~DistributedDataParallel();
  DistributedDataParallel(const DistributedDataParallel&) = delete;
  DistributedDataParallel& operator=(const DistributedDataParallel&) = delete;

  /// While it lives, backward passes add to .grad without exchange; the first pass after it
  /// exchanges the sums.
  NoSync no_sync() { return reducer_->no_sync(); }
  GradientReducer& reducer() { return *reducer_; }
  /// Buffers of rank 0 everywhere, if the options say so.
  void sync_buffers();
  size_t bucket_count() const;

 private:
  void start(size_t bucket);
  void finish();
  void forget_unused();

  nn::Module& model_;
  std::shared_ptr<ProcessGroup> group_;
  DataParallelOptions options_;
  std::vector<Work> works_;   // of the pass that runs
  std::vector<bool> unused_;  // its parameters without a gradient here, in the order of start()
  std::unique_ptr<GradientReducer> reducer_;
};

}  // namespace tendril::dist
