// Step 2: gradients. Mark what you want to differentiate with respect to, compute, call backward().
#include <tendril/tendril.h>

#include <cmath>
#include <iostream>

using namespace tendril;

int main() {
  // y = x^3 - 2x at x = 2: the derivative is 3x^2 - 2 = 10.
  Tensor x = full({}, 2.0, f64);
  x.requires_grad_();
  const Tensor y = x * x * x - 2.0 * x;
  y.backward();
  std::cout << "y = " << y.item<double>() << ", dy/dx = " << x.grad().item<double>() << "\n";

  // Gradient descent finds a minimum of (x^2 - 2)^2: the square root of two.
  for (int step = 0; step < 100; ++step) {
    x.set_grad({});  // gradients accumulate, so forget the last one
    square(square(x) - 2.0).backward();
    const NoGradGuard no_grad;  // the update itself is not differentiated
    add_(x, x.grad(), -0.05);   // x -= 0.05 * dx
  }
  std::cout << "x after 100 steps = " << x.item<double>() << "\n";

  // grad() returns gradients without storing them anywhere.
  const Tensor z = Tensor::from({1.0, 2.0, 3.0}, {3}).requires_grad_();
  const Tensor dz = grad({sum(exp(z))}, {z})[0];  // d(sum e^z)/dz = e^z
  std::cout << "gradient of sum(exp(z)) = " << dz << "\n";

  const bool right = std::abs(x.item<double>() - std::sqrt(2.0)) < 1e-6 &&
                     std::abs(dz.to_vector<double>()[2] - std::exp(3.0)) < 1e-12;
  return right ? 0 : 1;
}
