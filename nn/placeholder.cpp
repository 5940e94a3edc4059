#include <tendril/autograd/tape.h>
