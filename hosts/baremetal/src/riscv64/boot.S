# From the firmware to Rust. The firmware enters one hart here, in HS-mode without translation or interrupts:
# a0 = its hart id, a1 = the device tree (SBI 2.0, 9.1). The others are started later, at secondary.

        .section .text.boot, "ax"
        .globl  axvcpu_boot
axvcpu_boot:
        .option push
        .option norelax
        lla     gp, __global_pointer$
        .option pop
        # Nothing is in .bss yet, the stack included.
        lla     t0, __bss_start
        lla     t1, __bss_end
1:      bgeu    t0, t1, 2f
        sd      zero, 0(t0)
        addi    t0, t0, 8
        j       1b
2:      lla     tp, {CPUS}
        lla     sp, {STACKS}
        li      t0, {STACK_SIZE}
        add     sp, sp, t0
        lla     t0, {TRAP}
        csrw    stvec, t0
        csrw    sscratch, zero
        csrw    sie, zero
        tail    {MAIN}

# Another hart: a0 = its hart id, a1 = its number here (SBI 2.0, 9.1: the "opaque" argument).
        .globl  axvcpu_boot_secondary
axvcpu_boot_secondary:
        .option push
        .option norelax
        lla     gp, __global_pointer$
        .option pop
        .option push
        .option arch, +m
        li      t0, {CPU_SIZE}
        mul     t0, t0, a1
        lla     tp, {CPUS}
        add     tp, tp, t0
        li      t0, {STACK_SIZE}
        addi    t1, a1, 1
        mul     t0, t0, t1
        lla     sp, {STACKS}
        add     sp, sp, t0
        .option pop
        lla     t0, {TRAP}
        csrw    stvec, t0
        csrw    sscratch, zero
        csrw    sie, zero
        tail    {SECONDARY}

# A trap of the hypervisor itself, which never means to take one: interrupts stay masked. What it was is told,
# on a stack of its own in case the other is the reason.
        .section .text.trap, "ax"
        .balign 4
        .globl  axvcpu_host_trap
axvcpu_host_trap:
        mv      a3, sp
        mv      a4, ra
        ld      sp, {EMERGENCY_STACK}(tp)
        csrr    a0, scause
        csrr    a1, sepc
        csrr    a2, stval
        tail    {TRAPPED}
