// Private to dist: a ProcessGroup over NCCL, one GPU per process. Sources below dist/nccl are
// compiled only where NCCL is.
//
// Host tensors pass through the GPU; that is meant for the few numbers that a program keeps on the
// host, such as a norm or a description of its model.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include <tendril/dist/environment.h>
#include <tendril/dist/nccl/nccl_communicator.h>
#include <tendril/dist/nccl/nccl_engine.h>
#include <tendril/dist/process_group.h>

namespace tendril::dist {

/// `mpi`: where given, ranks find each other over it; otherwise at MASTER_ADDR and MASTER_PORT.
std::shared_ptr<ProcessGroup> nccl_process_group(const LaunchEnvironment& environment,
                                                 const InitOptions& options,
                                                 const std::shared_ptr<ProcessGroup>& mpi = {});

class NcclGroup final : public ProcessGroup {
 public:
  /// `world_ranks`: of the members, among all; empty for all.
  NcclGroup(std::shared_ptr<NcclEngine> engine, std::unique_ptr<NcclCommunicator> communicator,
            int rank, int size, std::vector<int> world_ranks);
  /// When an exception takes away the last group, all other ranks are told that this one will not
  /// come.
  ~NcclGroup() override;

  const char* backend() const override { return "nccl"; }
  std::shared_ptr<ProcessGroup> split(int color) override;
  void abort(const std::string& reason) override { engine_->monitor().report(reason); }
  void set_step(int64_t step) override { step_ = step; }

 protected:
  Work run_all_reduce(std::vector<Tensor> tensors, ReduceOp op) override;
  Work run_reduce_scatter(std::vector<Piece> pieces, ReduceOp op) override;
  Work run_all_gather(std::vector<Piece> pieces) override;
  Work run_broadcast(std::vector<Tensor> tensors, int root) override;
  Work run_gather(std::vector<Piece> pieces, int root) override;
  Work run_all_to_all(const Tensor& output, const std::vector<int64_t>& output_counts,
                      const Tensor& input, const std::vector<int64_t>& input_counts) override;
  Work run_send(const Tensor& tensor, int to) override;
  Work run_recv(const Tensor& tensor, int from) override;
  Work run_barrier() override;

 private:
  /// Ranks agree on the numbers of collectives, since all make the same calls.
  NcclOperation begin(const char* collective);
  NcclOperation begin_between_two(const std::string& label) const;
  Work post(NcclOperation operation, const std::function<void(ncclComm* comm)>& calls);

  std::shared_ptr<NcclEngine> engine_;
  std::unique_ptr<NcclCommunicator> communicator_;
  const std::vector<int> world_ranks_;
  const int exceptions_;  // under way when this was made
  std::atomic<int64_t> step_{-1};
  int64_t calls_ = 0;
};

}  // namespace tendril::dist
