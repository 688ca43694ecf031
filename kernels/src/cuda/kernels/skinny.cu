// Steps of more than 8 rows with weights in bf16: products on tensor cores, a weight read once for 64 rows.
//
// A product of mma has 16 outputs x 8 rows, over 16 inputs. Weights are its left side and come straight from
// memory, 16 bytes a lane; the rows are its right side, rounded to bf16 and packed as the lanes want them by the
// kernel before. So nothing is staged in shared memory, and whatever number of rows fits.
//
//   pack_norm        x = LN(residual)
//   attend_packed    x = attention, where its positions are one part
//   pack_parts       x = combined parts of attention, where they are more
//   skinny_qkv       Y = x W + b, ends as norm_qkv does
//   skinny_gelu      h = GELU(x W + b), packed again
//   skinny_residual  x += h W + b
//   skinny_head      logits = x W, ends as norm_head does
//
// The layer norm is a kernel of its own here, unlike for few rows: each block of a product would read all rows
// in f32 to norm them, and now reads half the bytes.
//
// T tiles of 8 rows (2, 4 or 8) share each weight that is read; blockIdx.y counts groups of 8 T rows.

// Inputs of a block: 8 of each of 4 lanes, in two products of mma. Which 16 of the 32 stand in which product
// is free as long as both sides agree, so a lane takes 8 neighbours: words 0 and 1 of its 16 bytes go into
// the first, 2 and 3 into the second.
#define BLOCK_INPUTS 32

__device__ inline int input_blocks(int inputs) { return (inputs + BLOCK_INPUTS - 1) / BLOCK_INPUTS; }

// Where input k of a row lies: [row / 8][k / 32][lane = row % 8 * 4 + k % 32 / 8][k % 8].
// Nobody reads the inputs behind the last, which fill up a block. The rows behind the last, which fill up a tile,
// are read: their sums go nowhere, and no other sum knows of them.
__device__ inline long long packed(int row, int k, int inputs) {
    const long long block = (long long)(row / 8) * input_blocks(inputs) + k / BLOCK_INPUTS;
    return (block * 32 + row % 8 * 4 + k % BLOCK_INPUTS / 8) * 8 + k % 8;
}

struct PutPacked {
    bf16 *x;
    int row, width;
    __device__ void operator()(int c, float y) const { store(x + packed(row, c, width), y); }
};

// The last of every `length` rows. grid (rows), 128 threads. Shared memory: two sums a warp.
__device__ inline void pack_norm_row(const float *residual, const float *gain, const float *bias, bf16 *x,
                                     int length, int width, float epsilon) {
    const int row = blockIdx.x;
    const PutPacked put = {x, row, width};
    norm_row(residual + ((long long)row * length + length - 1) * width, gain, bias, width, epsilon, put);
}

struct PutAttended {
    bf16 *x;
    int heads, head_width;
    __device__ void sum(long long part, int i, float sum, float total) const {
        const int row = (int)(part / heads), c = (int)(part % heads) * head_width + i;
        store(x + packed(row, c, heads * head_width), sum / total);
    }
    __device__ void ends(long long, float, float) const {}
};

// grid (1, H, B), 128 threads; as `attend` else.
__device__ inline void attend_packed(const float *query, const bf16 *keys, const bf16 *values,
                                     const int *position, bf16 *x, int heads, int head_width, int context) {
    const PutAttended put = {x, heads, head_width};
    attend_part(query, keys, values, position, heads, head_width, context, put);
}

// grid (rows), 128 threads. Shared memory: 32 factors a head.
__device__ inline void pack_parts_row(const float *partial, const float *stats, bf16 *x, int width, int heads,
                                      int splits) {
    SHARED_MEMORY(shared);
    float *factors = (float *)shared;
    const PutPacked put = {x, (int)blockIdx.x, width};
    wait_for_predecessor();
    let_successor_start();
    combine_parts(partial, stats, factors, put.row, width, heads, splits, put);
}

// The weights of 16 outputs as a lane of a warp reads them: of each block, 8 of output g and 8 of g + 8.
// Outputs behind the last are read as the last one: their sums go nowhere.
struct OutputTile {
    const uint4 *low, *high;
    int vectors; // behind this lane's first

    __device__ OutputTile(const bf16 *weights, int tile, int inputs, int outputs) {
        const int lane = threadIdx.x % 32, output = 16 * tile + lane / 4;
        low = (const uint4 *)(weights + (long long)min(output, outputs - 1) * inputs) + lane % 4;
        high = (const uint4 *)(weights + (long long)min(output + 8, outputs - 1) * inputs) + lane % 4;
        vectors = inputs / 8 - lane % 4;
    }

    __device__ bool has(int block) const { return 4 * block < vectors; }

    template <int U> __device__ void load(int block, int end, uint4 (&a)[U][2]) const {
#pragma unroll
        for (int u = 0; u < U; u++) {
            const bool inside = block + u < end && has(block + u);
            a[u][0] = inside ? load_stream(low + 4 * (block + u)) : zero_vector();
            a[u][1] = inside ? load_stream(high + 4 * (block + u)) : zero_vector();
        }
    }

    // Asks for what `load` will: a line of 128 bytes is two blocks.
    __device__ void prefetch(int block, int end) const {
#ifdef EMULATION
        (void)block, (void)end;
#else
        for (block += 2 * (int)(threadIdx.x % 4); block < end && has(block); block += 8) {
            asm volatile("prefetch.global.L2 [%0];" ::"l"(low + 4 * block));
            asm volatile("prefetch.global.L2 [%0];" ::"l"(high + 4 * block));
        }
#endif
    }
};

// Blocks of weights whose loads are under way while as many are multiplied; 8 tiles need the registers.
template <int T> struct Ahead {
    static constexpr int U = T > 4 ? 2 : 4;
};

// sum = 16 outputs x T tiles of rows over the blocks begin .. end, spread over the warp as multiply_tile has
// it: sum[n][i] is of output g + 8 (i / 2) and row 8 n + 2 t + i % 2. The first U blocks of weights
// are there in `a`. Of the T tiles `tiles` exist.
template <int T, int U>
__device__ inline void tile_product(const OutputTile &weights, const uint4 *x, int blocks, int begin, int end,
                                    int tiles, uint4 (&a)[U][2], float (&sum)[T][4]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < T; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) sum[n][i] = 0.0f;
    for (int block = begin; block < end; block += U) {
        uint4 next[U][2];
        weights.load(block + U, end, next);
#pragma unroll
        for (int u = 0; u < U; u++) {
            if (block + u < end) {
                const bool inside = weights.has(block + u);
                uint4 b[T];
#pragma unroll
                for (int n = 0; n < T; n++)
                    b[n] = inside && n < tiles ? x[(n * blocks + block + u) * 32 + lane] : zero_vector();
                const unsigned first[4] = {a[u][0].x, a[u][1].x, a[u][0].y, a[u][1].y};
                const unsigned second[4] = {a[u][0].z, a[u][1].z, a[u][0].w, a[u][1].w};
#pragma unroll
                for (int n = 0; n < T; n++) {
                    multiply_tile(sum[n], first, b[n].x, b[n].y);
                    multiply_tile(sum[n], second, b[n].z, b[n].w);
                }
            }
        }
#pragma unroll
        for (int u = 0; u < U; u++) {
            a[u][0] = next[u][0];
            a[u][1] = next[u][1];
        }
    }
}

// The packed rows of this block's group.
template <int T> __device__ inline const uint4 *packed_group(const bf16 *x, int inputs) {
    return (const uint4 *)x + (long long)blockIdx.y * T * input_blocks(inputs) * 32;
}

// Of this block's group, tiles that have a row.
template <int T> __device__ inline int group_tiles(int rows) {
    return min((rows - (int)blockIdx.y * 8 * T + 7) / 8, T);
}

// Y = x W, handed to `end` one by one. grid (outputs / 16, rows / 8 T, Z), 256 threads: a block makes 16
// outputs of a group, its 8 warps a stretch of the inputs each, and Z blocks share the inputs, of which the last
// to come adds what all of them wrote to `shares`. All sums are in the order of the inputs.
// shares: [blocks][Z][128 T]; arrived: a number for each of the blocks, zero before and after.
// Shared memory: 128 T floats a warp, and a word.
template <int T, class End>
__device__ inline void skinny_product(const bf16 *x, const bf16 *weights, int rows, int inputs, int outputs,
                                      float *shares, unsigned *arrived, End &end) {
    SHARED_MEMORY(shared);
    constexpr int U = Ahead<T>::U, SUMS = 128 * T;
    float *sums = (float *)shared;
    const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int blocks = input_blocks(inputs), parts = gridDim.z * warps, part = (blocks + parts - 1) / parts;
    const int begin = (blockIdx.z * warps + warp) * part, behind = min(begin + part, blocks);
    const OutputTile tile(weights, blockIdx.x, inputs, outputs);
    uint4 a[U][2];
    tile.load(begin, behind, a);
    tile.prefetch(begin + U, behind);
    wait_for_predecessor();
    let_successor_start();
    float sum[T][4];
    tile_product<T, U>(tile, packed_group<T>(x, inputs), blocks, begin, behind, group_tiles<T>(rows), a, sum);
#pragma unroll
    for (int n = 0; n < T; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) sums[warp * SUMS + (4 * n + i) * 32 + lane] = sum[n][i];
    __syncthreads();
    const float *from = sums;
    int count = warps;
    if (gridDim.z > 1) {
        const int of = blockIdx.y * gridDim.x + blockIdx.x;
        float *all = shares + (long long)of * gridDim.z * SUMS;
        for (int e = threadIdx.x; e < SUMS; e += blockDim.x) {
            float total = 0.0f;
            for (int w = 0; w < warps; w++) total += sums[w * SUMS + e];
            all[blockIdx.z * SUMS + e] = total;
        }
        if (!last_to_come(arrived + of, gridDim.z, (unsigned *)(sums + warps * SUMS))) return;
        if (threadIdx.x == 0) arrived[of] = 0;
        from = all;
        count = gridDim.z;
    }
    for (int e = threadIdx.x; e < SUMS; e += blockDim.x) {
        const int i = e / 32 % 4, row = blockIdx.y * 8 * T + e / 128 * 8 + e % 4 * 2 + i % 2;
        const int output = blockIdx.x * 16 + e % 32 / 4 + i / 2 * 8;
        float total = 0.0f;
        for (int s = 0; s < count; s++) total += from[s * SUMS + e];
        if (row < rows && output < outputs) end(row, output, total);
    }
}

// Reads 3 C C weights.
template <int T>
__device__ inline void skinny_qkv(const bf16 *x, const bf16 *weights, const float *bias, const int *position,
                                  float *query, bf16 *keys, bf16 *values, int rows, int width, int heads,
                                  int context, float scale) {
    EndQkv<bf16> end = {bias, position, query, keys, values, width, heads, context, scale};
    skinny_product<T>(x, weights, rows, width, 3 * width, nullptr, nullptr, end);
}

struct EndPackedGelu {
    const float *bias;
    bf16 *hidden;
    int outputs;
    __device__ void operator()(int row, int output, float sum) const {
        store(hidden + packed(row, output, outputs), gelu(sum + bias[output]));
    }
};

// Reads F C weights.
template <int T>
__device__ inline void skinny_gelu(const bf16 *x, const bf16 *weights, const float *bias, bf16 *hidden, int rows,
                                   int inputs, int outputs) {
    EndPackedGelu end = {bias, hidden, outputs};
    skinny_product<T>(x, weights, rows, inputs, outputs, nullptr, nullptr, end);
}

struct EndAdd {
    const float *bias;
    float *y;
    int outputs;
    __device__ void operator()(int row, int output, float sum) const {
        y[(long long)row * outputs + output] += sum + bias[output];
    }
};

// Reads C C or C F weights.
template <int T>
__device__ inline void skinny_residual(const bf16 *x, const bf16 *weights, const float *bias, float *y,
                                       float *shares, unsigned *arrived, int rows, int inputs, int outputs) {
    EndAdd end = {bias, y, outputs};
    skinny_product<T>(x, weights, rows, inputs, outputs, shares, arrived, end);
}

// grid (V / 128, rows / 8 T), 256 threads. Reads V C weights. A warp makes 16 outputs, and then every
// (8 gridDim.x)-th 16; each lane keeps the best of its outputs of each row.
// Shared memory: 2 T 64-bit numbers a thread, and a word.
template <int T>
__device__ inline void skinny_head(const bf16 *x, const bf16 *weights, float *logits, unsigned long long *best,
                                   unsigned *finished, int *token, int *position, int *output, int batch,
                                   int width, int vocabulary, int context, int length, int choose) {
    SHARED_MEMORY(shared);
    constexpr int U = Ahead<T>::U;
    const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int blocks = input_blocks(width), count = (vocabulary + 15) / 16, first = blockIdx.y * 8 * T;
    unsigned long long *bests = (unsigned long long *)shared, *mine = bests + warp * 2 * T * 32 + lane;
#pragma unroll
    for (int j = 0; j < 2 * T; j++) mine[32 * j] = 0;
    int at = blockIdx.x * warps + warp;
    OutputTile tile(weights, at, width, vocabulary);
    uint4 a[U][2];
    tile.load(0, at < count ? blocks : 0, a);
    wait_for_predecessor();
    let_successor_start();
    const uint4 *rows = packed_group<T>(x, width);
    while (at < count) {
        float sum[T][4];
        tile_product<T, U>(tile, rows, blocks, 0, blocks, group_tiles<T>(batch), a, sum);
        // The next weights are on their way while these logits are written.
        const int low = 16 * at + lane / 4;
        at += gridDim.x * warps;
        tile = OutputTile(weights, at, width, vocabulary);
        tile.load(0, at < count ? blocks : 0, a);
#pragma unroll
        for (int j = 0; j < 2 * T; j++) {
            const int row = first + j / 2 * 8 + lane % 4 * 2 + j % 2;
            if (row >= batch) continue;
            float *to = logits + (long long)row * vocabulary + low;
            unsigned long long key = mine[32 * j];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                if (low + 8 * i >= vocabulary) continue;
                const float logit = sum[j / 2][j % 2 + 2 * i];
                to[8 * i] = logit;
                key = max(key, best_key(logit, low + 8 * i));
            }
            mine[32 * j] = key;
        }
    }
#pragma unroll
    for (int j = 0; j < 2 * T; j++) {
        unsigned long long key = mine[32 * j];
#pragma unroll
        for (int offset = 4; offset < 32; offset *= 2)
            key = max(key, __shfl_xor_sync(0xffffffffu, key, offset));
        mine[32 * j] = key;
    }
    __syncthreads();
    if ((int)threadIdx.x < 8 * T && first + (int)threadIdx.x < batch) {
        const int row = threadIdx.x, j = row / 8 * 2 + row % 2;
        unsigned long long key = 0;
        for (int w = 0; w < warps; w++) key = max(key, bests[(w * 2 * T + j) * 32 + row % 8 / 2]);
        atomicMax(best + first + row, key);
    }
    choose_next(best, finished, (unsigned *)(bests + 2 * T * blockDim.x), token, position, output, batch, context,
                length, choose);
}
