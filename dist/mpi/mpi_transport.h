// Private to dist: what a HostGroup needs, in messages of an MPI Runtime.
#pragma once

#include <tendril/dist/host/transport.h>
#include <tendril/dist/mpi/mpi_runtime.h>

namespace tendril::dist::mpi {

class MpiTransport final : public Transport {
 public:
  MpiTransport(std::shared_ptr<Runtime> runtime, Runtime::Communicator communicator)
      : runtime_(std::move(runtime)), communicator_(communicator) {}

  const char* backend() const override { return "mpi"; }
  int rank() const override { return runtime_->rank(communicator_); }
  int size() const override { return runtime_->size(communicator_); }
  void all_to_all(const std::vector<std::vector<ConstBytes>>& send,
                  const std::vector<std::vector<Bytes>>& recv) override;
  void broadcast(const std::vector<Bytes>& blocks, int root) override;
  void send(ConstBytes block, int to) override;
  void recv(Bytes block, int from) override;
  void barrier() override;
  std::unique_ptr<Transport> split(int color) override;
  void abort(const std::string& reason) override { runtime_->abort(reason); }
  void set_label(const std::string& label) override;

 private:
  std::shared_ptr<Runtime> runtime_;
  Runtime::Communicator communicator_;
  std::string label_;
  int tag_ = 0;
};

}  // namespace tendril::dist::mpi
