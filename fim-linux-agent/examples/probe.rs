use fim_linux_agent::bpf::loader::*;
fn main() {
    tracing_subscriber::fmt().with_env_filter(std::env::var("L").unwrap_or("fim_linux_agent=debug".into())).with_writer(std::io::stderr).init();
    let sel = if std::env::args().any(|a| a=="proc") { Selection::Processes } else { Selection::All };
    match Programs::load(sel, 8<<20) {
        Ok((p, _ring)) => { for s in p.status() { println!("{:?} {:?} {} {}", s.hook, s.attach, s.target, s.failure.as_deref().unwrap_or("armed")); }
          for (h,c) in fim_common::record::Hook::ALL.iter().zip(p.counters().unwrap()) { println!("{} {:?}", h.name(), c); } }
        Err(e) => println!("ERR {e}"),
    }
}
