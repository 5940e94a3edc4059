#include <tendril/dist/host/host_group.h>

#include <exception>

#include <tendril/dist/host/host_collectives.h>

namespace tendril::dist {
namespace {

Device device_of(const std::vector<Tensor>& tensors) {
  return tensors.empty() ? Device::cpu() : tensors.front().device();
}

Device device_of(const std::vector<Piece>& pieces) {
  return pieces.empty() ? Device::cpu() : pieces.front().part.device();
}

}  // namespace

std::shared_ptr<ProcessGroup> HostGroup::create(
    const std::function<std::unique_ptr<Transport>()>& connect) {
  auto queue = std::make_shared<HostQueue>();
  std::shared_ptr<Transport> transport;
  queue->post([&] { transport = connect(); }).wait();
  const int number = transport->rank();
  return std::make_shared<HostGroup>(std::move(queue), std::move(transport), number);
}

HostGroup::HostGroup(std::shared_ptr<HostQueue> queue, std::shared_ptr<Transport> transport,
                     int number)
    : ProcessGroup(transport->rank(), transport->size()),
      queue_(std::move(queue)),
      transport_(std::move(transport)),
      number_(number),
      exceptions_(std::uncaught_exceptions()) {}

HostGroup::~HostGroup() {
  if (std::uncaught_exceptions() > exceptions_ && queue_.use_count() == 1)
    abort("rank " + std::to_string(number_) + " stops with an exception");
  // The transport ends in its thread, after the operations that use it.
  queue_->post([transport = std::move(transport_)]() mutable { transport.reset(); });
}

std::shared_ptr<ProcessGroup> HostGroup::split(int color) {
  std::shared_ptr<Transport> part;
  post("split", Device::cpu(), [&part, color](Transport& transport, HostCopies&) {
    part = transport.split(color);
  }).wait();
  auto group = std::make_shared<HostGroup>(queue_, std::move(part), number_);
  group->set_step(step_);
  return group;
}

// The call that fails in the transport's thread lets an engine tell the other processes.
void HostGroup::abort(const std::string& reason) {
  transport_->abort(reason);
  queue_->post([transport = transport_] { transport->barrier(); });
}

// Ranks agree on the numbers of collectives, since all make the same calls.
Work HostGroup::post(const char* collective, Device device, Body body) {
  return post_as(detail::concat(collective, " ", ++calls_), device, std::move(body));
}

Work HostGroup::post_as(std::string label, Device device, Body body) {
  if (const int64_t step = step_; step >= 0) label += detail::concat(" in step ", step);
  return queue_->post([transport = transport_, label = std::move(label), body = std::move(body),
                       copies = HostCopies(device)]() mutable {
    transport->set_label(label);
    body(*transport, copies);
    copies.finish();
  });
}

Work HostGroup::run_all_reduce(std::vector<Tensor> tensors, ReduceOp op) {
  const Device device = device_of(tensors);
  return post("all_reduce", device,
              [tensors = std::move(tensors), op](Transport& transport, HostCopies& copies) {
                host::all_reduce(transport, copies.in_place(tensors), op);
              });
}

Work HostGroup::run_reduce_scatter(std::vector<Piece> pieces, ReduceOp op) {
  const Device device = device_of(pieces);
  return post("reduce_scatter", device,
              [pieces = std::move(pieces), op](Transport& transport, HostCopies& copies) mutable {
                for (Piece& piece : pieces)
                  piece = {copies.input(piece.whole), copies.output(piece.part), piece.counts};
                host::reduce_scatter(transport, pieces, op);
              });
}

Work HostGroup::run_all_gather(std::vector<Piece> pieces) {
  const Device device = device_of(pieces);
  return post("all_gather", device,
              [pieces = std::move(pieces)](Transport& transport, HostCopies& copies) mutable {
                for (Piece& piece : pieces)
                  piece = {copies.output(piece.whole), copies.input(piece.part), piece.counts};
                host::all_gather(transport, pieces);
              });
}

Work HostGroup::run_broadcast(std::vector<Tensor> tensors, int root) {
  const Device device = device_of(tensors);
  return post(
      "broadcast", device,
      [tensors = std::move(tensors), root](Transport& transport, HostCopies& copies) {
        std::vector<Tensor> hosts;
        for (const Tensor& tensor : tensors)
          hosts.push_back(transport.rank() == root ? copies.input(tensor) : copies.output(tensor));
        host::broadcast(transport, hosts, root);
      });
}

Work HostGroup::run_gather(std::vector<Piece> pieces, int root) {
  const Device device = device_of(pieces);
  return post("gather", device,
              [pieces = std::move(pieces), root](Transport& transport, HostCopies& copies) mutable {
                for (Piece& piece : pieces) {
                  piece.part = copies.input(piece.part);
                  if (piece.whole.defined()) piece.whole = copies.output(piece.whole);
                }
                host::gather(transport, pieces, root);
              });
}

Work HostGroup::run_all_to_all(const Tensor& output, const std::vector<int64_t>& output_counts,
                               const Tensor& input, const std::vector<int64_t>& input_counts) {
  return post("all_to_all", output.device(), [=](Transport& transport, HostCopies& copies) {
    host::all_to_all(transport, copies.output(output), output_counts, copies.input(input),
                     input_counts);
  });
}

Work HostGroup::run_send(const Tensor& tensor, int to) {
  return post_as(detail::concat("send to rank ", to), tensor.device(),
                 [tensor, to](Transport& transport, HostCopies& copies) {
                   transport.send(host::bytes_of(copies.input(tensor)), to);
                 });
}

Work HostGroup::run_recv(const Tensor& tensor, int from) {
  return post_as(detail::concat("recv from rank ", from), tensor.device(),
                 [tensor, from](Transport& transport, HostCopies& copies) {
                   transport.recv(host::bytes_of(copies.output(tensor)), from);
                 });
}

Work HostGroup::run_barrier() {
  return post("barrier", Device::cpu(),
              [](Transport& transport, HostCopies&) { transport.barrier(); });
}

}  // namespace tendril::dist
