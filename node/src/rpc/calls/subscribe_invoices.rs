//! SubscribeInvoices.

use super::failed;
use super::invoices::to_rpc;
use crate::invoices::{Invoice, InvoiceEvent, InvoiceState, Told};
use crate::node::Node;
use crate::store::StoreError;
use fulmen_proto::lnrpc;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tonic::Status;

/// How many invoices are read in one go.
const PAGE: usize = 100;

type Answers = mpsc::Sender<Result<lnrpc::Invoice, Status>>;

/// Why a stream ends before the node does.
enum End {
    /// The caller went away.
    Unheard,
    /// It cannot be told any more.
    Failed(Status),
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        End::Failed(failed(error))
    }
}

/// First the invoices after the numbers of the request (0: none), then each one as it is added and
/// as it is settled.
pub fn subscribe_invoices(
    node: Arc<Node>,
    request: lnrpc::InvoiceSubscription,
) -> mpsc::Receiver<Result<lnrpc::Invoice, Status>> {
    let (answers, receiver) = mpsc::channel(PAGE);
    tokio::spawn(async move {
        let gone = answers.clone();
        tokio::select! {
            end = tell(&node, request, &answers) => {
                if let Err(End::Failed(status)) = end {
                    // The caller may have gone away meanwhile.
                    let _ = answers.send(Err(status)).await;
                }
            }
            () = gone.closed() => {}
        }
    });
    receiver
}

async fn tell(
    node: &Node,
    request: lnrpc::InvoiceSubscription,
    answers: &Answers,
) -> Result<(), End> {
    let (told, mut news) = node.switchboard.invoice_news.listen();
    // What is asked for from number 0 on is what comes from now on.
    let from = |asked, told| if asked == 0 { told } else { asked };
    let mut seen = Told {
        add_index: from(request.add_index, told.add_index),
        settle_index: from(request.settle_index, told.settle_index),
    };
    replay(node, &mut seen, told, answers).await?;
    loop {
        match news.recv().await {
            Ok(InvoiceEvent::Added(invoice)) if invoice.add_index > seen.add_index => {
                seen.add_index = invoice.add_index;
                send(node, &invoice, answers).await?;
            }
            Ok(InvoiceEvent::Settled(invoice)) if invoice.settle_index > seen.settle_index => {
                seen.settle_index = invoice.settle_index;
                send(node, &invoice, answers).await?;
            }
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => {
                let told;
                (told, news) = node.switchboard.invoice_news.listen();
                replay(node, &mut seen, told, answers).await?;
            }
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

/// Tells what is between the numbers seen and those that were told to everybody.
async fn replay(node: &Node, seen: &mut Told, told: Told, answers: &Answers) -> Result<(), End> {
    while seen.add_index < told.add_index {
        let page = node.switchboard.page::<Invoice>(seen.add_index, PAGE, false)?;
        let Some(last) = page.last() else { break };
        seen.add_index = last.add_index.min(told.add_index);
        for invoice in page.iter().filter(|invoice| invoice.add_index <= told.add_index) {
            if matches!(invoice.state, InvoiceState::Open | InvoiceState::Settled) {
                send(node, invoice, answers).await?;
            }
        }
    }
    while seen.settle_index < told.settle_index {
        let page = node.switchboard.settled_after(seen.settle_index, PAGE)?;
        let Some(last) = page.last() else { break };
        seen.settle_index = last.settle_index.min(told.settle_index);
        for invoice in page.iter().filter(|invoice| invoice.settle_index <= told.settle_index) {
            send(node, invoice, answers).await?;
        }
    }
    Ok(())
}

async fn send(node: &Node, invoice: &Invoice, answers: &Answers) -> Result<(), End> {
    let invoice = to_rpc(node, invoice).await;
    answers.send(Ok(invoice)).await.map_err(|_| End::Unheard)
}
