// What the tests of dist share: a small model, its data, and training under a strategy.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/creation.h>
#include <tendril/core/threads.h>
#include <tendril/dist/data_parallel.h>
#include <tendril/dist/fully_sharded.h>
#include <tendril/dist/in_process.h>
#include <tendril/nn/models/gpt2.h>
#include <tendril/optim/adamw.h>
#include <tendril/optim/clip.h>

namespace tendril::testing {

using Group = std::shared_ptr<dist::ProcessGroup>;

/// One thread per operation while it lives: ranks are threads already.
class OneThreadEach {
 public:
  OneThreadEach() : previous_(num_threads()) { set_num_threads(1); }
  ~OneThreadEach() { set_num_threads(previous_); }
  OneThreadEach(const OneThreadEach&) = delete;
  OneThreadEach& operator=(const OneThreadEach&) = delete;

 private:
  int previous_;
};

/// Rows that divide by none of 2, 3 and 4 evenly, and a tied head.
inline nn::models::Gpt2Config small_gpt2() {
  return {.vocab_size = 37,
          .n_positions = 9,
          .n_layer = 3,
          .n_head = 2,
          .n_embd = 10,
          .embd_pdrop = 0.0,
          .attn_pdrop = 0.0,
          .resid_pdrop = 0.0};
}

/// Tokens (examples, T) of one step, of which rank r of N works on every N-th row; targets follow
/// from them by a rule that can be learnt.
inline Tensor tokens_of_step(int64_t step) {
  std::vector<int64_t> values;
  for (int64_t i = 0; i < 12 * 8; ++i) values.push_back((i * i + 7 * i + step * 13) % 37);
  return Tensor::from(values, {12, 8});
}
inline Tensor targets_of_step(int64_t step) {
  std::vector<int64_t> values = tokens_of_step(step).to_vector<int64_t>();
  for (int64_t& value : values) value = (3 * value + 1) % 5;
  return Tensor::from(values, {12, 8});
}

inline Tensor share_of(const Tensor& examples, int rank, int size) {
  std::vector<Tensor> rows;
  for (int64_t i = rank; i < examples.size(0); i += size)
    rows.push_back(slice(examples, 0, i, i + 1));
  return cat(rows, 0);
}

/// The losses (mean over ranks) and final weights of a run.
struct Run {
  std::vector<double> losses;
  StateDict weights;
};

}  // namespace tendril::testing
