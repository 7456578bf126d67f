/* What a shared library of Vortex shows: the rooms are built with hidden names, VORTEX_API marks the public ones. */
#ifndef VORTEX_EXPORT_H_
#define VORTEX_EXPORT_H_

#if defined(_WIN32)
#define VORTEX_API
#else
#define VORTEX_API __attribute__((visibility("default")))
#endif

#endif /* VORTEX_EXPORT_H_ */
