#include <tendril/dist/process_group.h>

namespace tendril::dist {
namespace {

// ProcessGroup itself serves a group of one; what is left are barriers and faults.
class SingleGroup final : public ProcessGroup {
 public:
  SingleGroup() : ProcessGroup(0, 1) {}
  const char* backend() const override { return "in-process"; }
  std::shared_ptr<ProcessGroup> split(int) override { return std::make_shared<SingleGroup>(); }
  void abort(const std::string& reason) override { abort_reason_ = reason; }
  void set_step(int64_t) override {}

 protected:
  Work run_all_reduce(std::vector<Tensor>, ReduceOp) override { return {}; }
  Work run_reduce_scatter(std::vector<Piece>, ReduceOp) override { return {}; }
  Work run_all_gather(std::vector<Piece>) override { return {}; }
  Work run_broadcast(std::vector<Tensor>, int) override { return {}; }
  Work run_gather(std::vector<Piece>, int) override { return {}; }
  Work run_all_to_all(const Tensor&, const std::vector<int64_t>&, const Tensor&,
                      const std::vector<int64_t>&) override {
    return {};
  }
  Work run_send(const Tensor&, int) override { return {}; }
  Work run_recv(const Tensor&, int) override { return {}; }
  Work run_barrier() override {
    TENDRIL_CHECK(abort_reason_.empty(), "[barrier] the group was aborted: ", abort_reason_);
    return {};
  }

 private:
  std::string abort_reason_;
};

}  // namespace

std::shared_ptr<ProcessGroup> single_process_group() { return std::make_shared<SingleGroup>(); }

}  // namespace tendril::dist
