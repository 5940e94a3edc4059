#include <op_cases.h>

#include <tendril/autograd/functions.h>

namespace tendril::testing {
namespace {

using Inputs = std::vector<Tensor>;

OpInput indices(const Tensor& value) {
  return {.shape = value.shape(), .differentiable = false, .value = value};
}

void append_norms(std::vector<OpCase>& cases) {
  cases.push_back(
      {Op::layer_norm, "layer_norm", {{{3, 2, 19}}, {{19}}, {{19}}}, [](const Inputs& in) {
         return layer_norm(in[0], in[1], in[2]);
       }});
  cases.push_back({Op::layer_norm, "layer_norm plain", {{{4, 33}}}, [](const Inputs& in) {
                     return layer_norm(in[0], {}, {}, 1e-3);
                   }});
  cases.push_back(
      {Op::layer_norm, "layer_norm bias only", {{{70, 3}}, {{3}}}, [](const Inputs& in) {
         return layer_norm(in[0], {}, in[1], 1e-2);
       }});
  const std::vector<OpInput> sum_inputs = {{{3, 2, 19}}, {{3, 2, 19}}, {{19}}, {{19}}};
  cases.push_back({Op::add_layer_norm, "add_layer_norm", sum_inputs, [](const Inputs& in) {
                     const auto [sum, y] = add_layer_norm(in[0], in[1], in[2], in[3]);
                     return cat({sum, y});
                   }});
  cases.push_back({Op::add_layer_norm, "add_layer_norm y", sum_inputs, [](const Inputs& in) {
                     return add_layer_norm(in[0], in[1], in[2], in[3], 1e-3).y;
                   }});
  cases.push_back(
      {Op::add_layer_norm, "add_layer_norm sum", {{{5, 7}}, {{5, 7}}}, [](const Inputs& in) {
         return add_layer_norm(in[0], in[1], {}, {}).sum;
       }});
  cases.push_back({Op::rms_norm, "rms_norm", {{{3, 2, 19}}, {{19}}}, [](const Inputs& in) {
                     return rms_norm(in[0], in[1]);
                   }});
  cases.push_back({Op::rms_norm, "rms_norm plain", {{{5, 17}}}, [](const Inputs& in) {
                     return rms_norm(in[0], {}, 1e-3);
                   }});
}

void append_feed_forward(std::vector<OpCase>& cases) {
  const auto add = [&](const char* label, const std::vector<OpInput>& inputs, const auto& run) {
    cases.push_back({Op::feed_forward, label, inputs, run, 2.0});
  };
  add("feed_forward", {{{2, 3, 4}}, {{5, 4}}, {{5}}, {{3, 5}}, {{3}}}, [](const Inputs& in) {
    return feed_forward(in[0], {in[1], in[2], in[3], in[4]});
  });
  add("feed_forward without biases", {{{7, 4}}, {{9, 4}}, {{4, 9}}}, [](const Inputs& in) {
    return feed_forward(in[0], {.up = in[1], .down = in[2]}, Op::gelu_tanh);
  });
  add("feed_forward whose derivative needs the output", {{{4}}, {{6, 4}}, {{6}}, {{4, 6}}},
      [](const Inputs& in) {
        return feed_forward(in[0], {.up = in[1], .up_bias = in[2], .down = in[3]}, Op::sigmoid);
      });
  add("feed_forward gated", {{{2, 3, 4}}, {{5, 4}}, {{4, 5}}, {{5, 4}}}, [](const Inputs& in) {
    return feed_forward(in[0], {.up = in[1], .down = in[2], .gate = in[3]}, Op::silu);
  });
  add("feed_forward gated with biases",
      {{{3, 4}}, {{5, 4}}, {{5}}, {{4, 5}}, {{4}}, {{5, 4}}, {{5}}}, [](const Inputs& in) {
        return feed_forward(in[0], {in[1], in[2], in[3], in[4], in[5], in[6]}, Op::tanh);
      });
}

}  // namespace

std::vector<OpCase> layer_cases() {
  std::vector<OpCase> cases;
  append_feed_forward(cases);
  cases.push_back(
      {Op::softmax, "softmax", {{{3, 4, 19}}}, [](const Inputs& in) { return softmax(in[0]); }});
  cases.push_back({Op::softmax, "softmax axis 0", {{{5, 3, 2}}}, [](const Inputs& in) {
                     return softmax(in[0], 0);
                   }});
  cases.push_back({Op::softmax, "softmax axis 1 of one", {{{2, 1, 3}}}, [](const Inputs& in) {
                     return softmax(in[0], 1);
                   }});
  cases.push_back({Op::log_softmax, "log_softmax", {{{3, 4, 19}}}, [](const Inputs& in) {
                     return log_softmax(in[0]);
                   }});
  cases.push_back({Op::log_softmax, "log_softmax axis 1", {{{2, 5, 3}}}, [](const Inputs& in) {
                     return log_softmax(in[0], 1);
                   }});
  append_norms(cases);
  cases.push_back({Op::dropout, "dropout", {{{7, 11}}}, [](const Inputs& in) {
                     manual_seed(7);
                     return dropout(in[0], 0.4);
                   }});
  cases.push_back({Op::dropout, "dropout of everything", {{{3, 5}}}, [](const Inputs& in) {
                     return dropout(in[0], 1.0);
                   }});
  cases.push_back({Op::embedding,
                   "embedding",
                   {indices(Tensor::from<int64_t>({4, 0, 4, 2, 2, 4}, {2, 3})), {{5, 9}}},
                   [](const Inputs& in) { return embedding(in[0], in[1]); }});
  cases.push_back({Op::embedding,
                   "embedding of i32 with padding",
                   // the padding row is not looked up: its gradient is zero against the numbers
                   {indices(Tensor::from<int32_t>({1, 0, 1, 1}, {4})), {{3, 4}}},
                   [](const Inputs& in) { return embedding(in[0], in[1], 2); }});
  cases.push_back(
      {Op::rotary_embedding, "rotary_embedding", {{{2, 2, 3, 6}}}, [](const Inputs& in) {
         return rotary_embedding(in[0]);
       }});
  cases.push_back({Op::rotary_embedding,
                   "rotary_embedding interleaved from 5",
                   {{{1, 2, 3, 4}}},
                   [](const Inputs& in) { return rotary_embedding(in[0], 100.0, 5, true); }});
  return cases;
}

}  // namespace tendril::testing
