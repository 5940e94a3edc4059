// Every collective on numbers that depend on the rank: what it leaves behind must be the same to
// the bit, whichever engine moves the numbers.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <tendril/core/creation.h>
#include <tendril/core/ops/copy.h>
#include <tendril/dist/process_group.h>

namespace tendril::testing {

class CollectiveScenario {
 public:
  explicit CollectiveScenario(std::shared_ptr<dist::ProcessGroup> group,
                              Device device = Device::cpu())
      : group_(std::move(group)), device_(device) {}

  /// All results of this rank, one after the other, as bytes.
  std::string run() {
    for (const int64_t count : {1, 100, 20'011}) {
      reductions(count);
      pieces(count);
      moves(count);
    }
    texts();
    const auto half = group_->split(group_->rank() % 2 - 1);  // a negative color, too
    const Tensor x = numbers(5000);
    half->all_reduce(x).wait();
    keep(x);
    group_->barrier().wait();
    return results_;
  }

 private:
  Tensor numbers(int64_t count, DType dtype = f32) const {
    std::vector<double> values;
    for (int64_t i = 0; i < count; ++i)
      values.push_back(100.0 + 50.0 * std::sin(static_cast<double>(3 * i + 11 * group_->rank())));
    const Tensor here = Tensor::empty({count}, dtype, device_);
    ops::copy(here, Tensor::from<double>(values, {count}));
    return here;
  }

  void keep(const Tensor& on_device) {
    const Tensor x = Tensor::empty(on_device.shape(), on_device.dtype());
    ops::copy(x, on_device);
    results_.append(static_cast<const char*>(x.raw_data()), static_cast<size_t>(x.nbytes()));
  }

  void reductions(int64_t count) {
    using dist::ReduceOp;
    for (const ReduceOp op : {ReduceOp::sum, ReduceOp::avg, ReduceOp::max, ReduceOp::min}) {
      const std::vector<Tensor> tensors = {numbers(count), numbers(count / 3, bf16),
                                           numbers(count, f16), numbers(2, f64)};
      const dist::Work work = group_->all_reduce(tensors, op);
      const Tensor integers = numbers(count, i32);
      group_->all_reduce(integers, op == ReduceOp::avg ? ReduceOp::sum : op).wait();
      work.wait();
      for (const Tensor& tensor : tensors) keep(tensor);
      keep(integers);
    }
  }

  // Parts of count, 2 count, nothing, count, ... elements.
  void pieces(int64_t count) {
    std::vector<int64_t> counts;
    int64_t total = 0;
    for (int rank = 0; rank < group_->size(); ++rank) {
      counts.push_back(rank % 3 == 2 ? 0 : (rank % 3 + 1) * count);
      total += counts.back();
    }
    const Tensor part = Tensor::empty({counts[static_cast<size_t>(group_->rank())]}, f32, device_);
    const Tensor sums = Tensor::empty(part.shape(), bf16, device_);
    const Tensor whole = zeros({total}, f32, device_);
    group_
        ->reduce_scatter(
            {{numbers(total, bf16), part, counts}, {numbers(total, bf16), sums, counts}})
        .wait();
    group_->all_gather({{whole, part, counts}}).wait();
    const bool is_root = group_->rank() == group_->size() - 1;
    const Tensor gathered = is_root ? zeros({total}, bf16, device_) : Tensor();
    group_->gather({{gathered, sums, counts}}, group_->size() - 1).wait();
    keep(part);
    keep(whole);
    if (is_root) keep(gathered);
  }

  void moves(int64_t count) {
    for (int root = 0; root < group_->size(); ++root) {
      const std::vector<Tensor> tensors = {numbers(count), numbers(0), numbers(7, i64)};
      group_->broadcast(tensors, root).wait();
      for (const Tensor& tensor : tensors) keep(tensor);
    }
    std::vector<int64_t> input_counts, output_counts;
    int64_t input = 0, output = 0;
    for (int rank = 0; rank < group_->size(); ++rank) {
      input_counts.push_back(count * (group_->rank() + 2 * rank));
      output_counts.push_back(count * (rank + 2 * group_->rank()));
      input += input_counts.back(), output += output_counts.back();
    }
    const Tensor received = Tensor::empty({output}, f32, device_);
    group_->all_to_all(received, output_counts, numbers(input), input_counts).wait();
    keep(received);
    const Tensor token = numbers(count, u8);  // along the ranks
    if (group_->rank() > 0) group_->recv(token, group_->rank() - 1).wait();
    if (group_->rank() + 1 < group_->size()) group_->send(token, group_->rank() + 1).wait();
    keep(token);
  }

  void texts() {
    const std::string own(static_cast<size_t>(group_->rank()), 'x');
    for (const std::string& text : group_->all_gather_text(own + ".")) results_ += text;
    results_ += group_->broadcast_text(own, group_->size() - 1);
  }

  std::shared_ptr<dist::ProcessGroup> group_;
  Device device_;  // of its tensors
  std::string results_;
};

}  // namespace tendril::testing
