// Private to dist: a ProcessGroup over a Transport. Its operations run in a HostQueue's thread, the
// only one that calls the Transport; tensors on a GPU pass through host memory.
#pragma once

#include <atomic>
#include <functional>

#include <tendril/dist/host/host_copies.h>
#include <tendril/dist/host/host_queue.h>
#include <tendril/dist/host/transport.h>
#include <tendril/dist/process_group.h>

namespace tendril::dist {

class HostGroup final : public ProcessGroup {
 public:
  /// `connect` makes the Transport, in the thread that will call it.
  static std::shared_ptr<ProcessGroup> create(
      const std::function<std::unique_ptr<Transport>()>& connect);
  /// `number`: the rank in the group from which split() made this one.
  HostGroup(std::shared_ptr<HostQueue> queue, std::shared_ptr<Transport> transport, int number);
  /// Runs what is queued. When an exception takes away the last group, the other ranks would wait
  /// for this one in vain: it aborts theirs.
  ~HostGroup() override;

  const char* backend() const override { return transport_->backend(); }
  std::shared_ptr<ProcessGroup> split(int color) override;
  void abort(const std::string& reason) override;
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
  using Body = std::function<void(Transport& transport, HostCopies& copies)>;
  /// `device`: of the operation's tensors.
  Work post(const char* collective, Device device, Body body);
  Work post_as(std::string label, Device device, Body body);

  std::shared_ptr<HostQueue> queue_;
  std::shared_ptr<Transport> transport_;
  const int number_;
  const int exceptions_;  // under way when this was made
  std::atomic<int64_t> step_{-1};
  int64_t calls_ = 0;
};

}  // namespace tendril::dist
