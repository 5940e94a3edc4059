#include <tendril/tendril.h>

#include <iostream>

using namespace tendril;

struct Mlp : nn::Module {  // a model: named children and a forward
  nn::Linear up{2, 16}, down{16, 1};
  Mlp() { add("up", up), add("down", down); }
  Tensor forward(const Tensor& x) { return down(tanh(up(x))); }
};

int main() {
  const Tensor x = Tensor::from({0.f, 0.f, 0.f, 1.f, 1.f, 0.f, 1.f, 1.f}, {4, 2});
  const Tensor y = Tensor::from({0.f, 1.f, 1.f, 0.f}, {4, 1});  // exclusive or

  Mlp model;
  optim::AdamW optimizer(model.named_parameters(), {.lr = 0.05});
  for (int step = 0; step < 200; ++step) {
    optimizer.zero_grad();
    binary_cross_entropy_with_logits(model.forward(x), y).backward();
    optimizer.step();
  }
  std::cout << sigmoid(model.forward(x)) << "\n";  // close to 0, 1, 1, 0
}
