// A process group: ranks 0 .. size-1 that run the same program and exchange tensors.
//
//   auto group = dist::init_process_group();            // MPI, NCCL or alone: environment.h
//   dist::Work work = group->all_reduce(gradient, dist::ReduceOp::avg);
//   ...                                                  // computes meanwhile
//   work.wait();
//
// All ranks call the same collectives in the same order. Each call returns at once; its tensors
// belong to the operation until wait() returns. Operations of one group, and of all that split()
// made from it, run one after the other in the order of their calls.
//
// Sums are formed in the order of the ranks, in f32 for 16-bit tensors (f64 and integers as they
// are), and rounded once: every rank gets the same bits, and reduce_scatter() those of
// all_reduce(). NCCL chooses its own order.
//
// Bytes on the wire are counted as the algorithms need them: with n bytes over N ranks, all_gather
// and reduce_scatter send n (N-1)/N per rank, all_reduce twice that.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <tendril/core/tensor.h>

namespace tendril::dist {

enum class ReduceOp { sum, avg, max, min };

enum class Collective {
  all_reduce,
  reduce_scatter,
  all_gather,
  broadcast,
  gather,
  all_to_all,
  send,
  recv,
  barrier,
  count
};
TENDRIL_API const char* name(Collective collective);

/// What one rank has moved since the start or the last reset.
struct Traffic {
  int64_t calls = 0;
  int64_t sent_bytes = 0, received_bytes = 0;
};

/// An operation under way. Copies refer to the same operation.
class TENDRIL_API Work {
 public:
  struct State;  // private to dist
  Work() = default;
  explicit Work(std::shared_ptr<State> state) : state_(std::move(state)) {}
  /// Returns when the tensors may be used again; Error when the operation failed, on every call. A
  /// default Work is done.
  void wait() const;
  bool is_done() const;

 private:
  std::shared_ptr<State> state_;
};

/// A tensor that is cut along its memory into consecutive parts, one per rank, of which some may be
/// empty. Both tensors are contiguous; `whole` has sum(counts) elements, `part` counts[rank]. They
/// may share memory, `part` lying where it belongs in `whole`. Their dtypes are equal, or in
/// reduce_scatter() `part` may be wider.
struct Piece {
  Tensor whole, part;
  std::vector<int64_t> counts;  // elements of each rank
};

/// An operation that was given several tensors moves them together, as one.
class TENDRIL_API ProcessGroup {
 public:
  virtual ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// "mpi", "nccl" or "in-process".
  virtual const char* backend() const = 0;

  // ---- collectives: Error at once for tensors that do not fit, a rank out of range and the like

  /// In place; contiguous tensors of any dtype but bool; `avg` for floating-point ones.
  Work all_reduce(std::vector<Tensor> tensors, ReduceOp op = ReduceOp::sum);
  Work all_reduce(const Tensor& tensor, ReduceOp op = ReduceOp::sum) {
    return all_reduce(std::vector<Tensor>{tensor}, op);
  }
  /// Each rank gets its part of the sum of all wholes. A whole is not changed, but where its part
  /// lies in it.
  Work reduce_scatter(std::vector<Piece> pieces, ReduceOp op = ReduceOp::sum);
  /// Puts every whole together from the parts.
  Work all_gather(std::vector<Piece> pieces);
  Work broadcast(std::vector<Tensor> tensors, int root);
  /// all_gather() for `root` alone; elsewhere `whole` is undefined.
  Work gather(std::vector<Piece> pieces, int root);
  /// Sends input_counts[r] elements of the flat `input` to rank r and receives output_counts[r]
  /// into `output`, both in the order of the ranks.
  Work all_to_all(const Tensor& output, std::vector<int64_t> output_counts, const Tensor& input,
                  std::vector<int64_t> input_counts);
  /// A send may wait for its recv, and what is called after it with it: of two ranks that exchange
  /// tensors, one receives first.
  Work send(const Tensor& tensor, int to);
  Work recv(const Tensor& tensor, int from);
  Work barrier();
  /// One text from every rank, on every rank; waits.
  std::vector<std::string> all_gather_text(const std::string& text);
  /// The text of `root` on every rank; waits.
  std::string broadcast_text(const std::string& text, int root);

  /// Collective: a group of the ranks that give the same `color`, in the order of their ranks here.
  virtual std::shared_ptr<ProcessGroup> split(int color) = 0;

  /// Before each collective the ranks compare what they call, on which shapes and dtypes, and a
  /// difference is an Error that names both. Costs an exchange each. init_process_group() switches
  /// it on when ACCELERATE_DEBUG_MODE is set.
  void set_debug(bool on) { debug_ = on; }

  // ---- faults

  /// Every operation that runs or is called from now on fails on all ranks, soon, with this reason.
  virtual void abort(const std::string& reason) = 0;
  /// Named in the messages of operations that fail.
  virtual void set_step(int64_t step) = 0;

  // ---- counters

  Traffic traffic(Collective collective) const;
  /// Sum over all collectives.
  Traffic traffic() const;
  void reset_traffic();

 protected:
  ProcessGroup(int rank, int size);

  // What an engine implements; arguments are checked, and the group has more than one rank or the
  // operation is a barrier.
  virtual Work run_all_reduce(std::vector<Tensor> tensors, ReduceOp op) = 0;
  virtual Work run_reduce_scatter(std::vector<Piece> pieces, ReduceOp op) = 0;
  virtual Work run_all_gather(std::vector<Piece> pieces) = 0;
  virtual Work run_broadcast(std::vector<Tensor> tensors, int root) = 0;
  virtual Work run_gather(std::vector<Piece> pieces, int root) = 0;
  virtual Work run_all_to_all(const Tensor& output, const std::vector<int64_t>& output_counts,
                              const Tensor& input, const std::vector<int64_t>& input_counts) = 0;
  virtual Work run_send(const Tensor& tensor, int to) = 0;
  virtual Work run_recv(const Tensor& tensor, int from) = 0;
  virtual Work run_barrier() = 0;

 private:
  void count(Collective collective, int64_t sent, int64_t received);
  template <class... Parts>
  void compare_calls(const Parts&... parts);

  bool debug_ = false;
  int rank_, size_;
  std::array<Traffic, static_cast<size_t>(Collective::count)> traffic_{};
};

/// A group of one rank, in which collectives copy.
TENDRIL_API std::shared_ptr<ProcessGroup> single_process_group();

}  // namespace tendril::dist
