// Everything of Tendril in one include.
#pragma once

#include <tendril/autograd/checkpoint.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/gradcheck.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/creation.h>
#include <tendril/core/random.h>
#include <tendril/core/tensor.h>
#include <tendril/core/threads.h>
