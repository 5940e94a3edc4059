// Step 1: tensors. Making them, looking at them, computing with them, and what happens on a
// mistake.
#include <tendril/tendril.h>

#include <iostream>
#include <vector>

using namespace tendril;

int main() {
  // A tensor has a shape, an element type and a device. Reading it prints like NumPy.
  const Tensor a = Tensor::from({1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f}, {2, 3});
  std::cout << "a =\n" << a << "\n";

  // Shapes broadcast: (2, 3) + (3) adds the row to each row.
  const Tensor row = Tensor::from({10.0f, 20.0f, 30.0f}, {3});
  std::cout << "a + row =\n" << a + row << "\n";

  // A slice or a transposed tensor is a view: no number is copied.
  const Tensor last_column = select(a, 1, -1);
  std::cout << "last column = " << last_column << ", transposed =\n" << transpose(a) << "\n";

  // Dense algebra and reductions are free functions.
  const Tensor product = matmul(a, transpose(a));  // (2, 3) x (3, 2) -> (2, 2)
  std::cout << "a a^T =\n" << product << "\n";
  std::cout << "its mean = " << mean(product).item<float>() << "\n";

  // Memory of your own takes part without a copy; your vector sees what the tensor does.
  std::vector<float> mine = {1, 2, 3};
  mul_(Tensor::external(mine.data(), {3}), 2.0);

  // Mistakes are exceptions that say what was wrong and what would be right.
  bool caught = false;
  try {
    matmul(a, a);
  } catch (const Error& error) {
    caught = true;
    std::cout << "an error reads: " << error.what() << "\n";
  }

  const bool right = product.to_vector<float>() == std::vector<float>{14, 32, 32, 77} &&
                     last_column.to_vector<float>() == std::vector<float>{3, 6} && mine[2] == 6 &&
                     caught;
  return right ? 0 : 1;
}
