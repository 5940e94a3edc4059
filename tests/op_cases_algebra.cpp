// Cases for dense products, selection and checkpointing.

#include <tendril/tendril.h>

#include "op_cases.h"

namespace tendril::testing {
namespace {

using Inputs = std::vector<Tensor>;

void add_products(std::vector<OpCase>& cases) {
  const auto product = [](const Inputs& in) { return matmul(in[0], in[1]); };
  cases.push_back({Op::matmul, "matmul 2-D", {{{3, 4}}, {{4, 5}}}, product});
  cases.push_back({Op::matmul, "matmul batched", {{{2, 3, 4}}, {{2, 4, 2}}}, product});
  cases.push_back({Op::matmul, "matmul rows folded", {{{2, 3, 4}}, {{4, 5}}}, product});
  cases.push_back({Op::matmul, "matmul batch broadcast", {{{2, 1, 3, 2}}, {{3, 2, 4}}}, product});
  cases.push_back({Op::matmul, "matmul wide and deep", {{{17, 40}}, {{40, 35}}}, product});
  cases.push_back(
      {Op::matmul, "matmul transposed operands", {{{4, 3}}, {{5, 4}}}, [](const Inputs& in) {
         return matmul(transpose(in[0], 0, 1), transpose(in[1], 0, 1));
       }});
  cases.push_back({Op::matmul, "matmul vector matrix", {{{4}}, {{4, 3}}}, product});
  cases.push_back({Op::matmul, "matmul matrix vector", {{{2, 3, 4}}, {{4}}}, product});
  cases.push_back({Op::matmul, "matmul dot", {{{6}}, {{6}}}, product});

  cases.push_back(
      {Op::linear, "linear with bias", {{{2, 3, 4}}, {{5, 4}}, {{5}}}, [](const Inputs& in) {
         return linear(in[0], in[1], in[2]);
       }});
  cases.push_back({Op::linear, "linear without bias", {{{3, 4}}, {{2, 4}}}, [](const Inputs& in) {
                     return linear(in[0], in[1]);
                   }});
  cases.push_back(
      {Op::linear, "linear of a vector", {{{4}}, {{3, 4}}, {{3}}}, [](const Inputs& in) {
         return linear(in[0], in[1], in[2]);
       }});
}

void add_einsums(std::vector<OpCase>& cases) {
  const auto sum_over = [&](const std::string& equation, const Shape& a, const Shape& b) {
    cases.push_back({Op::einsum, "einsum " + equation, {{a}, {b}}, [equation](const Inputs& in) {
                       return einsum(equation, in[0], in[1]);
                     }});
  };
  sum_over("ij,jk->ik", {2, 3}, {3, 4});
  sum_over("bthd,bshd->bhts", {2, 3, 2, 2}, {2, 2, 2, 2});
  sum_over("ij,ij->", {2, 3}, {2, 3});
  sum_over("i,j->ji", {2}, {3});
  sum_over("ijk,kl->il", {2, 3, 2}, {2, 2});
  sum_over("ab,ab->ba", {2, 3}, {2, 3});
}

void add_selections(std::vector<OpCase>& cases) {
  const Tensor condition = Tensor::from<bool>({true, false, true, false, false, true}, {2, 3});
  cases.push_back({Op::where, "where", {{{2, 3}}, {{2, 3}}}, [condition](const Inputs& in) {
                     return where(to(condition, in[0].device()), in[0], in[1]);
                   }});
  cases.push_back({Op::where, "where broadcast", {{{3}}, {{2, 1}}}, [condition](const Inputs& in) {
                     return where(to(condition, in[0].device()), in[0], in[1]);
                   }});
  const Tensor mask = Tensor::from<bool>({false, true, false}, {3});
  cases.push_back({Op::masked_fill, "masked_fill", {{{2, 3}}}, [mask](const Inputs& in) {
                     return masked_fill(in[0], to(mask, in[0].device()), 0.5);
                   }});
  cases.push_back({Op::logical_not, "logical_not", {{{2, 3}}}, [](const Inputs& in) {
                     return logical_not(in[0]);
                   }});
  cases.push_back(
      {Op::isfinite, "isfinite", {{{2, 3}}}, [](const Inputs& in) { return isfinite(in[0]); }});
}

void add_checkpoints(std::vector<OpCase>& cases) {
  cases.push_back({Op::checkpoint, "checkpoint", {{{2, 3}}, {{3, 2}}}, [](const Inputs& in) {
                     const Tensor weight = in[1];
                     return checkpoint(
                         [weight](const Inputs& x) { return tanh(matmul(x[0], weight)); }, {in[0]});
                   }});
}

}  // namespace

std::vector<OpCase> algebra_cases() {
  std::vector<OpCase> cases;
  add_products(cases);
  add_einsums(cases);
  add_selections(cases);
  add_checkpoints(cases);
  return cases;
}

}  // namespace tendril::testing
