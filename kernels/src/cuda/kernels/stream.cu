// What a step must read, read, and nothing else: the floor that steps and kernels are held against.

// The xor of all 32-bit words of a stretch that this thread reads; 4 loads are under way at once.
__device__ inline unsigned read_stretch(const uint4 *words, int count) {
    const int stride = gridDim.x * blockDim.x;
    unsigned seen = 0;
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    for (; i < count - 3 * stride; i += 4 * stride) {
        uint4 v[4];
#pragma unroll
        for (int j = 0; j < 4; j++) v[j] = load_stream(words + i + j * stride);
#pragma unroll
        for (int j = 0; j < 4; j++) seen ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
    }
    for (; i < count; i += stride) {
        const uint4 v = load_stream(words + i);
        seen ^= v.x ^ v.y ^ v.z ^ v.w;
    }
    return seen;
}

// Every warp leaves the xor of what it read, so that no read can be left out.
__device__ inline void leave_seen(unsigned *seen, unsigned mine) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) mine ^= __shfl_xor_sync(0xffffffffu, mine, offset);
    if (threadIdx.x % 32 == 0) seen[(blockIdx.x * blockDim.x + threadIdx.x) / 32] = mine;
}
