// Kernels with a bug each, and one without: they show that the emulation would catch it. On no GPU.
//
// The first three: y[block] = sum of the block's stretch of x, by halving in shared memory.

static void planted_sum(const float *x, float *y, int n, bool barrier) {
    SHARED_MEMORY(shared);
    float *sums = (float *)shared;
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    sums[threadIdx.x] = i < n ? x[i] : 0.0f;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        if (barrier) __syncthreads();
    }
    if (threadIdx.x == 0) y[blockIdx.x] = sums[0];
}

extern "C" void planted_sums(const float *x, float *y, int n) { planted_sum(x, y, n, true); }

// No barrier between the steps.
extern "C" void planted_missing_barrier(const float *x, float *y, int n) { planted_sum(x, y, n, false); }

// The second half of the block never comes to the barrier inside the branch.
extern "C" void planted_divergent_barrier(const float *x, float *y, int n) {
    SHARED_MEMORY(shared);
    float *sums = (float *)shared;
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    sums[threadIdx.x] = i < n ? x[i] : 0.0f;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            sums[threadIdx.x] += sums[threadIdx.x + half];
            __syncthreads();
        }
    }
    if (threadIdx.x == 0) y[blockIdx.x] = sums[0];
}

// Each lane hands its number to its neighbour through shared memory, and nobody waits.
extern "C" void planted_missing_warp_barrier(const float *x, float *y, int n) {
    SHARED_MEMORY(shared);
    float *given = (float *)shared;
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    given[threadIdx.x] = x[i];
    const float next = given[threadIdx.x ^ 1];
    if (i < n) y[i] = next;
}

// Writes one row of 4 too many.
extern "C" void planted_row_beyond(const float *x, float *y, int rows) {
    for (int i = threadIdx.x; i < 4 * (rows + 1); i += blockDim.x) y[i] = x[0];
}

// Writes behind the shared memory that the launch asked for.
extern "C" void planted_shared_beyond(const float *x, float *y, int n) {
    SHARED_MEMORY(shared);
    float *sums = (float *)shared;
    sums[threadIdx.x + 1] = x[threadIdx.x];
    __syncthreads();
    if (threadIdx.x < (unsigned)n) y[threadIdx.x] = sums[threadIdx.x + 1];
}

// Reads one number too many where n + 64 of them are.
extern "C" void planted_read_beyond(const float *x, float *y, int n) { y[threadIdx.x] = x[n + threadIdx.x]; }

// Loads four numbers at once from where only one may be loaded, unless n is a multiple of 4.
extern "C" void planted_crooked_load(const float *x, float *y, int n) {
    const float4 v = *(const float4 *)(x + n);
    y[threadIdx.x] = v.x + v.w;
}

// Takes shared memory to begin as zeros.
extern "C" void planted_unwritten_shared(const float *x, float *y, int n) {
    SHARED_MEMORY(shared);
    float *sums = (float *)shared;
    if (threadIdx.x < (unsigned)n) sums[threadIdx.x] += x[threadIdx.x];
    __syncthreads();
    if (threadIdx.x < (unsigned)n) y[threadIdx.x] = sums[threadIdx.x];
}

// Copies that nobody waits for.
extern "C" void planted_missing_wait(const float *x, float *y, int n) {
    SHARED_MEMORY(shared);
    float *tile = (float *)shared;
    Copies copies;
    if (threadIdx.x < blockDim.x / 4) copies.copy(tile + 4 * threadIdx.x, x + 4 * threadIdx.x, true);
    copies.close();
    copies.wait<1>();
    __syncthreads();
    if (threadIdx.x < (unsigned)n) y[threadIdx.x] = tile[threadIdx.x];
}

// Copies into what others may still read.
extern "C" void planted_early_copy(const float *x, float *y, int n) {
    SHARED_MEMORY(shared);
    float *tile = (float *)shared;
    tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    Copies copies;
    if (threadIdx.x < blockDim.x / 4) copies.copy(tile + 4 * threadIdx.x, x + 4 * threadIdx.x, true);
    copies.close();
    if (threadIdx.x < (unsigned)n) y[threadIdx.x] = tile[threadIdx.x ^ 1];
    copies.wait<0>();
}
