#include <tendril/dist/nccl/nccl_group.h>

#include <exception>
#include <map>

#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/pointwise.h>
#include <tendril/core/ops/reduce.h>
#include <tendril/dist/nccl/nccl_calls.h>

namespace tendril::dist {
namespace {

// Tensors of one operation as NCCL can take them: on this rank's GPU.
class OnGpu {
 public:
  OnGpu(NcclOperation& operation, Device device) : operation_(operation), device_(device) {}

  Tensor input(const Tensor& tensor) { return place(tensor, true, false); }
  Tensor output(const Tensor& tensor) { return place(tensor, false, true); }
  Tensor in_place(const Tensor& tensor) { return place(tensor, true, true); }
  Tensor temporary(const Shape& shape, DType dtype) {
    return keep(Tensor::empty(shape, dtype, device_));
  }
  Tensor keep(Tensor tensor) {
    operation_.tensors.push_back(tensor);
    return tensor;
  }

 private:
  Tensor place(const Tensor& tensor, bool is_read, bool is_written) {
    if (!tensor.defined()) return tensor;
    if (tensor.device() == device_) return keep(tensor);
    TENDRIL_CHECK(tensor.device().is_cpu(), "[", operation_.label, "] this rank works on ", device_,
                  "; got a tensor on ", tensor.device());
    const Tensor here = temporary(tensor.shape(), tensor.dtype());
    if (is_read && tensor.numel() > 0) ops::copy(here, tensor);
    if (is_written) operation_.results.emplace_back(tensor, here);
    return here;
  }

  NcclOperation& operation_;
  const Device device_;
};

// A sum whose parts are wider than the wholes: these travel as they are, and each rank adds up what
// it got in the dtype of its part.
struct WideSum {
  Tensor whole, received, part;  // received: (ranks, count)
  std::vector<int64_t> sent_counts, received_counts;

  void finish(ReduceOp op) const {
    if (part.numel() == 0) return;
    Tensor sum = ops::sum(ops::cast(received, part.dtype()), {0});
    if (op == ReduceOp::avg) sum = ops::mul(sum, 1.0 / static_cast<double>(received.size(0)));
    const Shape flat{part.numel()};
    ops::copy(Tensor::view(part.storage(), part.offset(), flat, {1}, part.dtype()), sum);
  }
};

}  // namespace

NcclGroup::NcclGroup(std::shared_ptr<NcclEngine> engine,
                     std::unique_ptr<NcclCommunicator> communicator, int rank, int size,
                     std::vector<int> world_ranks)
    : ProcessGroup(rank, size),
      engine_(std::move(engine)),
      communicator_(std::move(communicator)),
      world_ranks_(std::move(world_ranks)),
      exceptions_(std::uncaught_exceptions()) {
  engine_->add(*communicator_);
}

NcclGroup::~NcclGroup() {
  if (std::uncaught_exceptions() == exceptions_) {
    communicator_->close();
  } else {  // the others do not come here to close theirs
    if (engine_->communicator_count() == 1) abort("it stops with an exception");
    communicator_->abort();
  }
  engine_->remove(*communicator_);
}

NcclOperation NcclGroup::begin(const char* collective) {
  const int64_t number = ++calls_;
  NcclOperation operation = begin_between_two(detail::concat(collective, " ", number));
  operation.number = number;
  return operation;
}

NcclOperation NcclGroup::begin_between_two(const std::string& label) const {
  NcclOperation operation;
  operation.label = label;
  if (const int64_t step = step_; step >= 0) operation.label += detail::concat(" in step ", step);
  operation.ranks = world_ranks_;
  return operation;
}

Work NcclGroup::post(NcclOperation operation, const std::function<void(ncclComm* comm)>& calls) {
  return engine_->run(std::move(operation), [&] { communicator_->group(calls); });
}

Work NcclGroup::run_all_reduce(std::vector<Tensor> tensors, ReduceOp op) {
  NcclOperation operation = begin("all_reduce");
  OnGpu gpu(operation, engine_->device());
  for (Tensor& tensor : tensors) tensor = gpu.in_place(tensor);
  return post(std::move(operation), [&](ncclComm* comm) {
    const NcclCalls calls(comm, engine_->stream(), rank(), size());
    for (const Tensor& tensor : tensors) calls.all_reduce(tensor, op);
  });
}

Work NcclGroup::run_reduce_scatter(std::vector<Piece> pieces, ReduceOp op) {
  NcclOperation operation = begin("reduce_scatter");
  OnGpu gpu(operation, engine_->device());
  const bool adds = op == ReduceOp::sum || op == ReduceOp::avg;
  std::vector<WideSum> sums;
  std::vector<Piece> plain;
  for (Piece& piece : pieces) {
    Tensor whole = gpu.input(piece.whole);
    const Tensor part = gpu.output(piece.part);
    const bool widens = whole.dtype() != part.dtype();
    if (widens && adds) {
      const std::vector<int64_t> own(static_cast<size_t>(size()), part.numel());
      const Tensor received = gpu.temporary({size(), part.numel()}, whole.dtype());
      sums.push_back({whole, received, part, std::move(piece.counts), own});
    } else {
      if (widens) whole = gpu.keep(ops::cast(whole, part.dtype()));
      plain.push_back({whole, part, std::move(piece.counts)});
    }
  }
  return engine_->run(std::move(operation), [&] {
    communicator_->group([&](ncclComm* comm) {
      const NcclCalls calls(comm, engine_->stream(), rank(), size());
      for (const Piece& piece : plain) calls.reduce_scatter(piece, op);
      for (const WideSum& sum : sums)
        calls.all_to_all(sum.received, sum.received_counts, sum.whole, sum.sent_counts);
    });
    for (const WideSum& sum : sums) sum.finish(op);
  });
}

Work NcclGroup::run_all_gather(std::vector<Piece> pieces) {
  NcclOperation operation = begin("all_gather");
  OnGpu gpu(operation, engine_->device());
  for (Piece& piece : pieces)
    piece = {gpu.output(piece.whole), gpu.input(piece.part), std::move(piece.counts)};
  return post(std::move(operation), [&](ncclComm* comm) {
    const NcclCalls calls(comm, engine_->stream(), rank(), size());
    for (const Piece& piece : pieces) calls.all_gather(piece);
  });
}

Work NcclGroup::run_broadcast(std::vector<Tensor> tensors, int root) {
  NcclOperation operation = begin("broadcast");
  OnGpu gpu(operation, engine_->device());
  for (Tensor& tensor : tensors) tensor = rank() == root ? gpu.input(tensor) : gpu.output(tensor);
  return post(std::move(operation), [&](ncclComm* comm) {
    const NcclCalls calls(comm, engine_->stream(), rank(), size());
    for (const Tensor& tensor : tensors) calls.broadcast(tensor, root);
  });
}

Work NcclGroup::run_gather(std::vector<Piece> pieces, int root) {
  NcclOperation operation = begin("gather");
  OnGpu gpu(operation, engine_->device());
  for (Piece& piece : pieces)
    piece = {gpu.output(piece.whole), gpu.input(piece.part), std::move(piece.counts)};
  return post(std::move(operation), [&](ncclComm* comm) {
    const NcclCalls calls(comm, engine_->stream(), rank(), size());
    for (const Piece& piece : pieces) calls.gather(piece, root);
  });
}

Work NcclGroup::run_all_to_all(const Tensor& output, const std::vector<int64_t>& output_counts,
                               const Tensor& input, const std::vector<int64_t>& input_counts) {
  NcclOperation operation = begin("all_to_all");
  OnGpu gpu(operation, engine_->device());
  const Tensor to = gpu.output(output), from = gpu.input(input);
  return post(std::move(operation), [&](ncclComm* comm) {
    const NcclCalls calls(comm, engine_->stream(), rank(), size());
    calls.all_to_all(to, output_counts, from, input_counts);
  });
}

Work NcclGroup::run_send(const Tensor& tensor, int to) {
  NcclOperation operation = begin_between_two(detail::concat("send to rank ", to));
  const Tensor from = OnGpu(operation, engine_->device()).input(tensor);
  return post(std::move(operation), [&](ncclComm* comm) {
    NcclCalls(comm, engine_->stream(), rank(), size()).send(from, to);
  });
}

Work NcclGroup::run_recv(const Tensor& tensor, int from) {
  NcclOperation operation = begin_between_two(detail::concat("recv from rank ", from));
  const Tensor to = OnGpu(operation, engine_->device()).output(tensor);
  return post(std::move(operation), [&](ncclComm* comm) {
    NcclCalls(comm, engine_->stream(), rank(), size()).recv(to, from);
  });
}

// NCCL has none: a sum that all take part in, and that the host waits for.
Work NcclGroup::run_barrier() {
  NcclOperation operation = begin("barrier");
  operation.blocks_host = true;
  const Tensor token = OnGpu(operation, engine_->device()).temporary({1}, u8);
  ops::fill(token, 0.0);
  return post(std::move(operation), [&](ncclComm* comm) {
    NcclCalls(comm, engine_->stream(), rank(), size()).all_reduce(token, ReduceOp::max);
  });
}

// NCCL knows colors from 0 on, and messages name ranks among all: so everybody tells its color.
std::shared_ptr<ProcessGroup> NcclGroup::split(int color) {
  const std::vector<std::string> colors = all_gather_text(std::to_string(color));
  std::map<int, std::vector<int>> members;  // color -> ranks here
  for (int member = 0; member < size(); ++member)
    members[std::stoi(colors[static_cast<size_t>(member)])].push_back(member);
  const std::vector<int>& own = members.at(color);
  int own_rank = 0;
  std::vector<int> world_ranks;
  for (const int member : own) {
    own_rank += member < rank();
    world_ranks.push_back(world_ranks_.empty() ? member
                                               : world_ranks_[static_cast<size_t>(member)]);
  }
  const auto index = static_cast<int>(std::distance(members.begin(), members.find(color)));
  auto part = std::make_shared<NcclGroup>(engine_, communicator_->split(index, rank()), own_rank,
                                          static_cast<int>(own.size()), std::move(world_ranks));
  part->set_step(step_);
  return part;
}

}  // namespace tendril::dist
