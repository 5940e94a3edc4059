// Step 3: a network. A module with named parameters, an optimizer, a training loop, and weights
// that another model loads by name. The task: which of three interleaved spirals is a point on?
#include <tendril/tendril.h>

#include <cmath>
#include <iostream>
#include <vector>

using namespace tendril;

struct Mlp : nn::Module {
  nn::Linear up{2, 64}, middle{64, 64}, down{64, 3};
  Mlp() {
    add("up", up);
    add("middle", middle);
    add("down", down);
  }
  Tensor forward(const Tensor& x) { return down(relu(middle(relu(up(x))))); }  // (N, 2) -> (N, 3)
};

struct Points {
  Tensor place, arm;  // (N, 2) and (N)
};

Points spirals(int64_t per_arm) {
  std::vector<float> place;
  std::vector<int64_t> arm;
  for (int64_t a = 0; a < 3; ++a)
    for (int64_t i = 0; i < per_arm; ++i) {
      const double radius = (i + 1.0) / per_arm, angle = 4.0 * radius + a * 2.0944;
      place.push_back(static_cast<float>(radius * std::cos(angle)));
      place.push_back(static_cast<float>(radius * std::sin(angle)));
      arm.push_back(a);
    }
  return {Tensor::from(place, {3 * per_arm, 2}), Tensor::from(arm, {3 * per_arm})};
}

double accuracy(Mlp& model, const Points& points) {
  const NoGradGuard no_grad;
  return mean(to(eq(argmax(model.forward(points.place), -1), points.arm), f32)).item<double>();
}

int main() {
  manual_seed(1);
  Mlp model;
  std::cout << nn::summary(model) << "\n";

  const Points train = spirals(100), unseen = spirals(37);
  optim::AdamW optimizer(model.named_parameters(), {.lr = 0.01});
  for (int step = 1; step <= 200; ++step) {
    optimizer.zero_grad();
    const Tensor loss = cross_entropy(model.forward(train.place), train.arm);
    loss.backward();
    optimizer.step();
    if (step % 50 == 0) std::cout << "step " << step << ", loss " << loss.item<float>() << "\n";
  }

  Mlp copy;  // other random weights, until it loads the trained ones
  copy.load_state_dict(model.state_dict());
  const double learned = accuracy(model, unseen);
  std::cout << "accuracy on unseen points: " << learned << "\n";
  return learned > 0.95 && accuracy(copy, unseen) == learned ? 0 : 1;
}
