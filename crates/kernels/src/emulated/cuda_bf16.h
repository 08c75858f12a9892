#pragma once
struct __nv_bfloat16 { unsigned short bits; };
static float __bfloat162float(__nv_bfloat16 x) {
    unsigned bits = (unsigned)x.bits << 16;
    float wide;
    memcpy(&wide, &bits, 4);
    return wide;
}
static __nv_bfloat16 __float2bfloat16_rn(float x) {
    if (x != x) return {0x7fff};
    unsigned bits;
    memcpy(&bits, &x, 4);
    return {(unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
