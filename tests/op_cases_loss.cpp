#include <op_cases.h>

#include <tendril/autograd/functions.h>

namespace tendril::testing {
namespace {

using Inputs = std::vector<Tensor>;

OpInput targets(const Tensor& value) {
  return {.shape = value.shape(), .differentiable = false, .value = value};
}

constexpr Reduction kReductions[] = {Reduction::mean, Reduction::sum, Reduction::none};
constexpr const char* kReductionNames[] = {"mean", "sum", "none"};

void append_class_losses(std::vector<OpCase>& cases, size_t i) {
  const Reduction reduction = kReductions[i];
  const std::string name = kReductionNames[i];
  const Tensor target = Tensor::from<int64_t>({3, 18, -100, 0, 7, 3}, {2, 3});
  cases.push_back({Op::cross_entropy,
                   "cross_entropy " + name,
                   {{{2, 3, 19}}, targets(target)},
                   [reduction](const Inputs& in) {
                     return cross_entropy(in[0], in[1], {.reduction = reduction});
                   }});
  cases.push_back({Op::cross_entropy,
                   "cross_entropy smoothed " + name,
                   {{{2, 3, 19}}, targets(target)},
                   [reduction](const Inputs& in) {
                     return cross_entropy(in[0], in[1],
                                          {.label_smoothing = 0.2, .reduction = reduction});
                   }});
  // x, weight, bias: the target keeps its place between them
  const auto add_linear = [&](const std::string& label, std::vector<OpInput> inputs,
                              double smoothing) {
    inputs.insert(inputs.begin() + 2, targets(target));
    cases.push_back({Op::linear_cross_entropy, "linear_cross_entropy " + label + name,
                     std::move(inputs), [reduction, smoothing](const Inputs& in) {
                       return linear_cross_entropy(
                           in[0], in[1], in[2], in.size() > 3 ? in[3] : Tensor(),
                           {.label_smoothing = smoothing, .reduction = reduction});
                     }});
  };
  add_linear("", {{{2, 3, 5}}, {{19, 5}}}, 0.0);
  add_linear("with bias, smoothed, ", {{{2, 3, 5}}, {{19, 5}}, {{19}}}, 0.2);
  cases.push_back(
      {Op::nll_loss,
       "nll_loss " + name,
       {{{2, 3, 19}}, targets(target)},
       [reduction](const Inputs& in) { return nll_loss(in[0], in[1], -100, reduction); }});
}

void append_pointwise_losses(std::vector<OpCase>& cases, size_t i) {
  const Reduction reduction = kReductions[i];
  const std::string name = kReductionNames[i];
  cases.push_back(
      {Op::mse_loss, "mse_loss " + name, {{{3, 5}}, {{3, 5}}}, [reduction](const Inputs& in) {
         return mse_loss(in[0], in[1], reduction);
       }});
  // x and target are kept apart: |x - t| has a kink
  cases.push_back({Op::l1_loss,
                   "l1_loss " + name,
                   {{{3, 5}, 0.5, 2.0}, {{3, 5}, -2.0, -0.5}},
                   [reduction](const Inputs& in) { return l1_loss(in[0], in[1], reduction); }});
  cases.push_back({Op::binary_cross_entropy_with_logits,
                   "binary_cross_entropy_with_logits " + name,
                   {{{3, 5}, -4.0, 4.0}, {{3, 5}, 0.0, 1.0}},
                   [reduction](const Inputs& in) {
                     return binary_cross_entropy_with_logits(in[0], in[1], reduction);
                   }});
  cases.push_back({Op::kl_div,
                   "kl_div " + name,
                   {{{3, 5}, -3.0, -0.1}, {{3, 5}, 0.1, 1.0}},
                   [reduction](const Inputs& in) { return kl_div(in[0], in[1], reduction); }});
  cases.push_back(
      {Op::kl_div,
       "kl_div log target " + name,
       {{{3, 5}, -3.0, -0.1}, {{3, 5}, -3.0, -0.1}},
       [reduction](const Inputs& in) { return kl_div(in[0], in[1], reduction, true); }});
}

}  // namespace

std::vector<OpCase> loss_cases() {
  std::vector<OpCase> cases;
  for (size_t i = 0; i < 3; ++i) {
    append_class_losses(cases, i);
    append_pointwise_losses(cases, i);
  }
  return cases;
}

}  // namespace tendril::testing
