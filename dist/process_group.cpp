#include <tendril/dist/process_group.h>

#include <cstring>
#include <numeric>

#include <tendril/core/ops/copy.h>
#include <tendril/dist/cut.h>
#include <tendril/dist/group_checks.h>
#include <tendril/dist/work_state.h>

namespace tendril::dist {
namespace {

int64_t bytes_of(const std::vector<Tensor>& tensors) {
  int64_t bytes = 0;
  for (const Tensor& tensor : tensors) bytes += tensor.nbytes();
  return bytes;
}

// Of all wholes and of rank's parts of them, in the wholes' dtype, which is what travels.
struct PieceBytes {
  int64_t whole = 0, part = 0;

  PieceBytes(const std::vector<Piece>& pieces, int rank) {
    for (const Piece& piece : pieces) {
      const DType dtype = piece.whole.defined() ? piece.whole.dtype() : piece.part.dtype();
      const auto& counts = piece.counts;
      whole += std::accumulate(counts.begin(), counts.end(), int64_t{0}) * size_of(dtype);
      part += counts[static_cast<size_t>(rank)] * size_of(dtype);
    }
  }
};

// With one rank, part and whole are the same numbers, and perhaps the same memory.
void copy_alone(const Tensor& to, const Tensor& from) {
  if (to.numel() == 0 || to.raw_data() == from.raw_data()) return;
  const Shape flat{to.numel()};
  ops::copy(Tensor::view(to.storage(), to.offset(), flat, {1}, to.dtype()),
            Tensor::view(from.storage(), from.offset(), flat, {1}, from.dtype()));
}

// The tape must notice that their numbers change.
void mark_changed(const std::vector<Tensor>& tensors) {
  for (const Tensor& tensor : tensors) tensor.bump_version();
}

std::string text_of(const std::vector<Tensor>& tensors) {
  std::string text;
  for (const Tensor& tensor : tensors)
    text += detail::concat(" ", tensor.shape(), " ", tensor.dtype());
  return text;
}

std::string text_of(const std::vector<Piece>& pieces) {
  std::string text;
  for (const Piece& piece : pieces) {
    text += " (";
    for (const int64_t count : piece.counts) text += detail::concat(count, " ");
    text += detail::concat("elements of ", piece.part.dtype(), ")");
  }
  return text;
}

}  // namespace

const char* name(Collective collective) {
  switch (collective) {
    case Collective::all_reduce:
      return "all_reduce";
    case Collective::reduce_scatter:
      return "reduce_scatter";
    case Collective::all_gather:
      return "all_gather";
    case Collective::broadcast:
      return "broadcast";
    case Collective::gather:
      return "gather";
    case Collective::all_to_all:
      return "all_to_all";
    case Collective::send:
      return "send";
    case Collective::recv:
      return "recv";
    case Collective::barrier:
      return "barrier";
    case Collective::count:
      break;
  }
  fail("[name] invalid collective ", static_cast<int>(collective));
}

void Work::wait() const {
  if (state_) state_->wait();
}

bool Work::is_done() const { return !state_ || state_->is_done(); }

ProcessGroup::ProcessGroup(int rank, int size) : rank_(rank), size_(size) {
  TENDRIL_CHECK(rank >= 0 && rank < size, "[ProcessGroup] rank ", rank, " in a group of ", size);
}
ProcessGroup::~ProcessGroup() = default;

template <class... Parts>
void ProcessGroup::compare_calls(const Parts&... parts) {
  if (!debug_ || size_ == 1) return;
  debug_ = false;  // the comparison itself
  const std::vector<std::string> calls = all_gather_text(detail::concat(parts...));
  debug_ = true;
  for (size_t rank = 1; rank < calls.size(); ++rank)
    TENDRIL_CHECK(calls[rank] == calls[0],
                  "[ProcessGroup] the ranks call different operations: rank 0 ", calls[0],
                  ", rank ", rank, " ", calls[rank]);
}

Work ProcessGroup::all_reduce(std::vector<Tensor> tensors, ReduceOp op) {
  check_tensors("all_reduce", tensors);
  for (const Tensor& tensor : tensors) check_reducible("all_reduce", tensor.dtype(), op);
  compare_calls("all_reduce", text_of(tensors));
  int64_t own = 0;  // bytes of what this rank sums
  for (const Stretch& stretch : cut_together(tensors, rank_, size_))
    own += stretch.count * size_of(tensors[stretch.tensor].dtype());
  const int64_t moved = bytes_of(tensors) - own + (size_ - 1) * own;
  count(Collective::all_reduce, moved, moved);
  mark_changed(tensors);
  return size_ == 1 ? Work() : run_all_reduce(std::move(tensors), op);
}

Work ProcessGroup::reduce_scatter(std::vector<Piece> pieces, ReduceOp op) {
  check_pieces("reduce_scatter", pieces, rank_, size_, true, true);
  for (const Piece& piece : pieces) check_reducible("reduce_scatter", piece.whole.dtype(), op);
  compare_calls("reduce_scatter", text_of(pieces));
  const PieceBytes bytes(pieces, rank_);
  count(Collective::reduce_scatter, bytes.whole - bytes.part, (size_ - 1) * bytes.part);
  for (const Piece& piece : pieces) piece.part.bump_version();
  if (size_ > 1) return run_reduce_scatter(std::move(pieces), op);
  for (const Piece& piece : pieces) copy_alone(piece.part, piece.whole);
  return {};
}

Work ProcessGroup::all_gather(std::vector<Piece> pieces) {
  check_pieces("all_gather", pieces, rank_, size_);
  compare_calls("all_gather", text_of(pieces));
  const PieceBytes bytes(pieces, rank_);
  count(Collective::all_gather, (size_ - 1) * bytes.part, bytes.whole - bytes.part);
  for (const Piece& piece : pieces) piece.whole.bump_version();
  if (size_ > 1) return run_all_gather(std::move(pieces));
  for (const Piece& piece : pieces) copy_alone(piece.whole, piece.part);
  return {};
}

Work ProcessGroup::broadcast(std::vector<Tensor> tensors, int root) {
  check_tensors("broadcast", tensors);
  check_rank("broadcast", root, size_);
  compare_calls("broadcast from ", root, text_of(tensors));
  const int64_t bytes = bytes_of(tensors);
  if (rank_ == root) {
    count(Collective::broadcast, (size_ - 1) * bytes, 0);
  } else {
    count(Collective::broadcast, 0, bytes);
    mark_changed(tensors);
  }
  return size_ == 1 ? Work() : run_broadcast(std::move(tensors), root);
}

Work ProcessGroup::gather(std::vector<Piece> pieces, int root) {
  check_rank("gather", root, size_);
  check_pieces("gather", pieces, rank_, size_, rank_ == root);
  compare_calls("gather to ", root, text_of(pieces));
  const PieceBytes bytes(pieces, rank_);
  if (rank_ == root) {
    count(Collective::gather, 0, bytes.whole - bytes.part);
    for (const Piece& piece : pieces) piece.whole.bump_version();
  } else {
    count(Collective::gather, bytes.part, 0);
    for (Piece& piece : pieces) piece.whole = {};
  }
  if (size_ > 1) return run_gather(std::move(pieces), root);
  for (const Piece& piece : pieces) copy_alone(piece.whole, piece.part);
  return {};
}

Work ProcessGroup::all_to_all(const Tensor& output, std::vector<int64_t> output_counts,
                              const Tensor& input, std::vector<int64_t> input_counts) {
  check_tensors("all_to_all", {output, input});
  check_counts("all_to_all", "output", output, output_counts, size_);
  check_counts("all_to_all", "input", input, input_counts, size_);
  TENDRIL_CHECK(output.dtype() == input.dtype(),
                "[all_to_all] input and output must have the same dtype; got ", input.dtype(),
                " and ", output.dtype());
  compare_calls("all_to_all of ", input.dtype());
  TENDRIL_CHECK(!overlap(output, input), "[all_to_all] input and output share memory");
  const int64_t kept = input_counts[static_cast<size_t>(rank_)];
  TENDRIL_CHECK(output_counts[static_cast<size_t>(rank_)] == kept, "[all_to_all] rank ", rank_,
                " sends itself ", kept, " elements, but receives ",
                output_counts[static_cast<size_t>(rank_)]);
  const int64_t element = size_of(input.dtype());
  count(Collective::all_to_all, (input.numel() - kept) * element,
        (output.numel() - kept) * element);
  output.bump_version();
  if (size_ > 1) return run_all_to_all(output, output_counts, input, input_counts);
  copy_alone(output, input);
  return {};
}

Work ProcessGroup::send(const Tensor& tensor, int to) {
  check_tensors("send", {tensor});
  check_rank("send", to, size_);
  TENDRIL_CHECK(to != rank_, "[send] rank ", rank_, " sends to itself");
  count(Collective::send, tensor.nbytes(), 0);
  return run_send(tensor, to);
}

Work ProcessGroup::recv(const Tensor& tensor, int from) {
  check_tensors("recv", {tensor});
  check_rank("recv", from, size_);
  TENDRIL_CHECK(from != rank_, "[recv] rank ", rank_, " receives from itself");
  count(Collective::recv, 0, tensor.nbytes());
  tensor.bump_version();
  return run_recv(tensor, from);
}

Work ProcessGroup::barrier() {
  compare_calls("barrier");
  count(Collective::barrier, 0, 0);
  return run_barrier();
}

std::vector<std::string> ProcessGroup::all_gather_text(const std::string& text) {
  const auto ranks = static_cast<size_t>(size_);
  const Tensor lengths = Tensor::empty({size_}, i64);
  const Tensor length = Tensor::from<int64_t>({static_cast<int64_t>(text.size())}, {1});
  all_gather({{lengths, length, std::vector<int64_t>(ranks, 1)}}).wait();
  const std::vector<int64_t> counts = lengths.to_vector<int64_t>();
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  const Tensor whole = Tensor::empty({total}, u8);
  const Tensor part = Tensor::empty({counts[static_cast<size_t>(rank_)]}, u8);
  std::copy(text.begin(), text.end(), part.data<uint8_t>());
  all_gather({{whole, part, counts}}).wait();
  std::vector<std::string> texts;
  const auto* next = static_cast<const char*>(whole.raw_data());
  for (const int64_t count : counts) {
    texts.emplace_back(next, static_cast<size_t>(count));
    next += count;
  }
  return texts;
}

std::string ProcessGroup::broadcast_text(const std::string& text, int root) {
  const Tensor length = Tensor::from<int64_t>({static_cast<int64_t>(text.size())}, {1});
  broadcast({length}, root).wait();
  const Tensor bytes = Tensor::empty({length.item<int64_t>()}, u8);
  if (rank_ == root) std::copy(text.begin(), text.end(), bytes.data<uint8_t>());
  broadcast({bytes}, root).wait();
  return {static_cast<const char*>(bytes.raw_data()), static_cast<size_t>(bytes.numel())};
}

void ProcessGroup::count(Collective collective, int64_t sent, int64_t received) {
  Traffic& traffic = traffic_[static_cast<size_t>(collective)];
  ++traffic.calls;
  traffic.sent_bytes += sent;
  traffic.received_bytes += received;
}

Traffic ProcessGroup::traffic(Collective collective) const {
  TENDRIL_CHECK(collective < Collective::count, "[traffic] invalid collective");
  return traffic_[static_cast<size_t>(collective)];
}

Traffic ProcessGroup::traffic() const {
  Traffic sum;
  for (const Traffic& traffic : traffic_) {
    sum.calls += traffic.calls;
    sum.sent_bytes += traffic.sent_bytes;
    sum.received_bytes += traffic.received_bytes;
  }
  return sum;
}

void ProcessGroup::reset_traffic() { traffic_ = {}; }

}  // namespace tendril::dist
