// How many threads do the arithmetic: those asked for, else those of VORTEX_THREADS, else one for each core that this
// process may use.
#pragma once

namespace vortex {

// The cores this process may run on, bounded by the time its container may use.
int usable_cores();

// `asked` from 1 to 4096; 0: as above. UserError for another number.
int thread_count(int asked);

}  // namespace vortex
