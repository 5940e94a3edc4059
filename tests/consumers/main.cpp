// What an embedder writes: fits y = 2x - 1 by gradient descent and checks the numbers it learned.
#include <tendril/tendril.h>

#include <cmath>
#include <cstdio>

using namespace tendril;

int main() {
  const Tensor x = Tensor::from({-1.0f, 0.0f, 1.0f, 2.0f}, {4, 1});
  const Tensor y = Tensor::from({-3.0f, -1.0f, 1.0f, 3.0f}, {4, 1});
  Tensor weight = zeros({1, 1}), bias = zeros({1});
  weight.requires_grad_();
  bias.requires_grad_();

  for (int step = 0; step < 200; ++step) {
    weight.set_grad({});
    bias.set_grad({});
    mean(square(linear(x, weight, bias) - y)).backward();
    const NoGradGuard no_grad;
    add_(weight, weight.grad(), -0.1);
    add_(bias, bias.grad(), -0.1);
  }

  const float w = weight.item<float>(), b = bias.item<float>();
  const bool learned = std::abs(w - 2.0f) < 1e-3f && std::abs(b + 1.0f) < 1e-3f;
  bool caught = false;  // errors are exceptions, also across a shared library's border
  try {
    matmul(zeros({2, 3}), zeros({2, 3}));
  } catch (const Error&) {
    caught = true;
  }
  std::printf("y = %.4f x + %.4f, %s, %s\n", w, b, learned ? "learned" : "NOT learned",
              caught ? "error caught" : "error NOT caught");
  return learned && caught ? 0 : 1;
}
