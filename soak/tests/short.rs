//! The soak, short.

const EXITS: u64 = 2_000_000;

#[test]
fn nothing_is_lost_on_the_software_hart() {
    let account = axvcpu_soak::soft(EXITS).unwrap();
    println!("soft: {account}");
    assert!(account.exits >= EXITS);
}

#[test]
fn nothing_is_lost_on_kvm() {
    const FEWER: u64 = EXITS / 50;
    match axvcpu_soak::kvm(FEWER).unwrap() {
        Some(account) => assert!(account.exits >= FEWER),
        None => println!("  kvm: soak  skipped: there is no KVM here"),
    }
}
