// The public header of the engine with the types it names, for the rooms that stand on it.
#pragma once

#include <vortex/engine.h>

#include "ir/program.h"
#include "models/model.h"
